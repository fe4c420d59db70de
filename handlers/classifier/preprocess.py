"""Cuts the square of pixels that a model sees out of an RGB picture, and normalises pixels to floats."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from classifier.decode import Extent
from classifier.recipe import Interpolation, Normalization

# Pillow's filter, and how many pixels it reaches to each side at the original size.
_FILTERS: dict[Interpolation, tuple[Image.Resampling, int]] = {
    "bilinear": (Image.Resampling.BILINEAR, 1),
    "bicubic": (Image.Resampling.BICUBIC, 2),
}

# Per-channel mean and standard deviation, RGB, on pixels scaled to 0…1.
NORMALIZATIONS: dict[Normalization, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # statistics of ImageNet; torchvision's models
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # -1…1; TensorFlow's models
}


def resize_and_crop(
    image: Image.Image, resize: int, crop: int, interpolation: Interpolation, extent: Extent | None = None
) -> NDArray[np.uint8]:
    """Resize the short side of an RGB picture to `resize` pixels and cut the middle `crop` x `crop` out.

    The rounding is torchvision's (`Resize`, then `CenterCrop`), but only the pixels of the crop are computed: a picture
    of 1 x 20,000 costs no more than a square one.

    Args:
        image: the picture, in RGB.
        resize: length of its short side after resizing, in pixels.
        crop: side of the square, in pixels.
        interpolation: the filter, used with antialiasing.
        extent: the picture's exact size, if scaled decoding made that a fraction of pixels.

    Returns:
        uint8 [crop, crop, 3].
    """
    width, height = extent or image.size
    left, top, right, bottom = crop_region(width, height, resize, crop)
    _, resized_height = _resized(width, height, resize)
    filtered, radius = _FILTERS[interpolation]
    # Rows first, columns second, each rounded to whole levels, as Pillow does when it resizes a whole picture. Given a
    # box in both directions it does not always do so.
    margin = math.ceil(radius * max(1, height / resized_height)) + 1  # the rows that the filter reaches beyond the crop
    first, last = max(0, math.floor(top) - margin), min(image.height, math.ceil(bottom) + margin)
    rows = image.resize((crop, last - first), filtered, box=(left, first, right, last))
    return np.array(rows.resize((crop, crop), filtered, box=(0, top - first, crop, bottom - first)))


def crop_region(width: float, height: float, resize: int, crop: int) -> tuple[float, float, float, float]:
    """Which part of an upright picture the model sees: left, top, right, bottom, in its pixels."""
    resized_width, resized_height = _resized(width, height, resize)
    left, right = _crop_edges(width, resized_width, crop)
    top, bottom = _crop_edges(height, resized_height, crop)
    return left, top, right, bottom


def _resized(width: float, height: float, resize: int) -> tuple[int, int]:
    long = int(resize * max(width, height) / min(width, height))
    return (resize, long) if width <= height else (long, resize)


def _crop_edges(side: float, resized: int, crop: int) -> tuple[float, float]:
    """Where a crop from the middle of a resized side begins and ends, in pixels of the original side."""
    offset = round((resized - crop) / 2)
    return offset * side / resized, (offset + crop) * side / resized


def normalize(pixels: Tensor, normalization: Normalization) -> Tensor:
    """Uint8 [N,H,W,3] to float32 [N,3,H,W]: scaled to 0…1, less the mean, over the standard deviation.

    The memory order stays that of the pixels, which is torch's channels_last.
    """
    mean, std = (torch.tensor(values, device=pixels.device) for values in NORMALIZATIONS[normalization])
    return pixels.to(torch.float32).div_(255).sub_(mean).div_(std).permute(0, 3, 1, 2)
