from pathlib import Path

import pytest
import torch
from classifier.labels import imagenet1k
from classifier.pipeline import load_pixels
from classifier.preprocess import normalize
from classifier.recipe import Recipe, read_recipe
from classifier.runtimes.eager import build, load_module
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from scripts.golden import photograph
from scripts.weights import resolve

RECIPE = Path(__file__).parents[2] / "recipes" / "efficientnet_lite0.yaml"

# The same convolutions in the same order; only the padding is done elsewhere.
LOGITS = 1e-4

PHOTOGRAPHS = {
    "chelsea.png": "Egyptian cat",
    "coffee.png": "espresso",
    "rocket.jpg": "missile",
    "motorcycle_left.png": "moped",
}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return read_recipe(RECIPE)


@pytest.fixture(scope="module")
def weights(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained weights, which come with a package."""
    return resolve(recipe, "pretrained", tmp_path_factory.mktemp("cache")).path


@pytest.fixture(scope="module")
def ours(recipe: Recipe, weights: Path) -> nn.Module:
    return load_module(recipe.architecture, weights)


@pytest.fixture(scope="module")
def original(weights: Path) -> nn.Module:
    """The architecture of those who trained the weights."""
    module: nn.Module = EfficientNet.from_name("efficientnet-lite0").eval()
    module.load_state_dict(torch.load(weights, weights_only=True))
    return module


@pytest.fixture(scope="module")
def inputs(recipe: Recipe) -> Tensor:
    """The photographs as the model sees them."""
    pixels = [load_pixels(photograph(name).read_bytes(), recipe.input) for name in PHOTOGRAPHS]
    return torch.cat([normalize(torch.tensor(item)[None], recipe.input.normalization) for item in pixels])


def test_the_state_dict_is_that_of_the_original(ours: nn.Module, original: nn.Module) -> None:
    assert list(ours.state_dict()) == list(original.state_dict())
    for name, value in original.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


@torch.inference_mode()
def test_the_logits_of_photographs_are_those_of_the_original(
    ours: nn.Module, original: nn.Module, inputs: Tensor
) -> None:
    torch.testing.assert_close(ours(inputs), original(inputs), atol=LOGITS, rtol=0)


@torch.inference_mode()
def test_the_logits_of_noise_are_those_of_the_original(ours: nn.Module, original: nn.Module) -> None:
    noise = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(noise), original(noise), atol=LOGITS, rtol=0)


@torch.inference_mode()
def test_the_trained_weights_know_the_photographs(ours: nn.Module, inputs: Tensor) -> None:
    names = [imagenet1k()[index].class_name for index in ours(inputs).argmax(dim=1).tolist()]
    assert names == list(PHOTOGRAPHS.values())


def test_vgg16_has_its_number_of_parameters() -> None:
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in build("vgg16").parameters())
    assert parameters == 138_357_544


def test_vgg16_has_the_state_dict_of_torchvision() -> None:
    from torchvision.models import vgg16

    with torch.device("meta"):
        shapes, expected = (
            {name: value.shape for name, value in module.state_dict().items()} for module in (build("vgg16"), vgg16())
        )
    assert shapes == expected
