"""A model's floats, from levels of pixels: against torchvision and Pillow."""

from typing import Any, Literal

import msgspec
import numpy as np
import pytest
import torch
from classifier.input import Channels, Input
from classifier.normalization import laid_out, normalize
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.functional import normalize as torchvision_normalize
from torchvision.transforms.functional import to_tensor

from tests.unit.handlers.classifier.test_preprocess import noise


@pytest.mark.parametrize(
    ("normalization", "mean", "deviation"),
    [("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ("half", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))],
)
def test_normalization_is_torchvisions(
    normalization: Literal["imagenet", "half"], mean: tuple[float, ...], deviation: tuple[float, ...]
) -> None:
    images = [noise(9, 7), noise(9, 7).transpose(Image.Transpose.ROTATE_180)]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    expected = torchvision_normalize(torch.stack([to_tensor(image) for image in images]), mean, deviation)
    torch.testing.assert_close(normalize(pixels, Input(normalization=normalization)), expected, atol=1e-6, rtol=0)


def test_half_normalization_reaches_from_minus_one_to_one() -> None:
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 2, 1, 1).expand(1, 2, 1, 3)
    assert normalize(black_and_white, Input(normalization="half"))[0, :, :, 0].T.tolist() == [[-1.0] * 3, [1.0] * 3]


def test_normalization_leaves_the_pixels_alone_and_the_channels_last() -> None:
    pixels = torch.full((2, 4, 5, 3), 255, dtype=torch.uint8)
    result = normalize(pixels, Input())
    assert pixels.unique().tolist() == [255]
    assert (result.dtype, result.shape) == (torch.float32, (2, 3, 4, 5))
    assert result.is_contiguous(memory_format=torch.channels_last)


def levels() -> NDArray[np.uint8]:
    """Colours of all kinds: [1,H,W,3], all greys and the corners of the cube among them."""
    random = np.random.default_rng(0).integers(0, 256, (300_000, 3), dtype=np.uint8)
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    corners = np.array([[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)], np.uint8)
    return np.concatenate([greys, corners, random])[None, None]


def as_floats(channels: Channels, pixels: NDArray[np.uint8], **normalization: Any) -> torch.Tensor:
    spec = msgspec.convert({"channels": channels, "normalization": normalization}, Input)
    return normalize(torch.from_numpy(pixels), spec)


def test_grey_is_pillows() -> None:
    pixels = levels()
    expected = np.asarray(Image.fromarray(pixels[0]).convert("L"))
    found = as_floats("grey", pixels, scale=1)
    assert found.shape == (1, 1, *pixels.shape[1:3])
    assert np.array_equal(found[0, 0].numpy(), expected)


def test_bgr_has_its_channels_in_the_other_order_and_the_numbers_in_that_of_the_model() -> None:
    pixels = np.array([10, 20, 30], np.uint8).reshape(1, 1, 1, 3)
    assert as_floats("bgr", pixels, mean=[1, 2, 3], std=[1, 2, 4], scale=1).flatten().tolist() == [29, 9, 1.75]


def test_levels_are_scaled_before_the_mean_is_taken_away() -> None:
    pixels = np.array([0, 100, 255], np.uint8).reshape(1, 1, 1, 3)
    assert as_floats("rgb", pixels, mean=1, std=0.5, scale=0.01).flatten().tolist() == pytest.approx([-2, 0, 3.1])
    assert as_floats("rgb", pixels).flatten().tolist() == pytest.approx([0, 100 / 255, 1])


def test_normalization_leaves_the_pixels_alone_in_every_order_of_channels() -> None:
    for channels in ("rgb", "bgr", "grey"):
        pixels = levels()
        before = pixels.copy()
        as_floats(channels, pixels, mean=0.5, std=0.25)
        assert np.array_equal(pixels, before)


def test_programs_get_the_layout_that_they_take() -> None:
    floats = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert laid_out(floats, "nchw") is floats
    assert laid_out(floats, "nhwc")[0, 1, 2].tolist() == floats[0, :, 1, 2].tolist()
