import io
from pathlib import Path

import numpy as np
import pytest
import torch
from classifier.architecture import build
from classifier.labels import imagenet1k
from classifier.normalization import normalize
from classifier.pipeline import load_pixels
from classifier.recipe import Recipe, read_recipe
from classifier.runtimes.eager import load_module
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

from scripts.building.golden import photograph
from scripts.building.weights import resolve
from tests.conftest import encode

RECIPE = Path(__file__).parents[3] / "recipes" / "efficientnet_lite0.yaml"

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
    return resolve(recipe, "pretrained", tmp_path_factory.mktemp("cache"), Path()).path


@pytest.fixture(scope="module")
def ours(recipe: Recipe, weights: Path) -> nn.Module:
    return load_module(recipe, weights)


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
    return torch.cat([normalize(torch.tensor(item)[None], recipe.input) for item in pixels])


@pytest.mark.slow
def test_the_state_dict_is_that_of_the_original(ours: nn.Module, original: nn.Module) -> None:
    assert list(ours.state_dict()) == list(original.state_dict())
    for name, value in original.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


@pytest.mark.slow
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


def top_five(module: nn.Module, pixels: Tensor, recipe: Recipe) -> set[str]:
    logits = module(normalize(pixels[None], recipe.input))[0]
    return {imagenet1k()[index].class_name for index in logits.topk(5).indices.tolist()}


@pytest.mark.slow
@pytest.mark.parametrize("name", PHOTOGRAPHS)
@torch.inference_mode()
def test_a_large_jpeg_that_is_decoded_smaller_has_the_five_likeliest_classes_of_all_its_pixels(
    name: str, ours: nn.Module, recipe: Recipe
) -> None:
    with Image.open(photograph(name)) as image:
        scale = 3000 / min(image.size)
        size = round(image.width * scale), round(image.height * scale)
        data = encode(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), "JPEG", quality=92)
    spec = recipe.input
    pixels = load_pixels(data, spec)
    assert isinstance(pixels, np.ndarray)
    with Image.open(io.BytesIO(data)) as image:
        assert min(image.size) == 3000
        resized = resize(image, [spec.scaled[0]], InterpolationMode(spec.interpolation))
        expected = pil_to_tensor(center_crop(resized, list(spec.size))).permute(1, 2, 0)
    assert not np.array_equal(pixels, expected.numpy())  # or it was not decoded smaller
    assert np.abs(pixels.astype(int) - expected.numpy()).mean() < 1.2
    assert top_five(ours, torch.tensor(pixels), recipe) == top_five(ours, expected, recipe)


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
