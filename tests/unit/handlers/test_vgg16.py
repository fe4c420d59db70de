"""The VGG16 module against torchvision's."""

import subprocess
import sys

import pytest
import torch
from torchvision.models import vgg16
from vgg16 import VGG16

PARAMETERS = 138_357_544  # of configuration D, in torchvision's documentation


@pytest.fixture(scope="module")
def ours() -> VGG16:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VGG16().eval()


@pytest.mark.slow
def test_it_has_the_parameters_of_configuration_d(ours: VGG16) -> None:
    assert sum(parameter.numel() for parameter in ours.parameters()) == PARAMETERS


@pytest.mark.slow
def test_torchvisions_weights_fit_and_give_the_same_logits(ours: VGG16) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = vgg16(weights=None).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():  # the same seed gives the same initial values
        assert torch.equal(ours.state_dict()[name], value), name
    pixels = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(ours(pixels), theirs(pixels))


@pytest.mark.slow
def test_a_worker_does_not_import_torchvision() -> None:
    code = "import sys, vgg16, image_classifier_handler; sys.exit('torchvision' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
