"""Cuts the area that a model sees out of an RGB picture, and normalises pixels to floats."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from classifier.decode import Extent
from classifier.input import UNIT_SCALE, CropOffset, Input, Interpolation, Layout

# Pillow's filter, and how many pixels it reaches to each side at the original size.
_FILTERS: dict[Interpolation, tuple[Image.Resampling, int]] = {
    "bilinear": (Image.Resampling.BILINEAR, 1),
    "bicubic": (Image.Resampling.BICUBIC, 2),
    "lanczos": (Image.Resampling.LANCZOS, 3),
    "nearest": (Image.Resampling.NEAREST, 1),
}

# Grey from RGB, in 65536ths: ITU-R 601, the numbers of Pillow's conversion to L.
GREY_WEIGHTS = (19595.0, 38470.0, 7471.0)
GREY_SHIFT = 65536.0


def resize_and_crop(image: Image.Image, spec: Input, extent: Extent | None = None) -> NDArray[np.uint8]:
    """Make an RGB picture the size that the model sees.

    The rounding is torchvision's (`Resize`, then `CenterCrop`), but only the pixels of the crop are computed: a picture
    of 1 x 20,000 costs no more than a square one.

    Args:
        image: the picture, in RGB.
        spec: the recipe's input.
        extent: the picture's exact size, if scaled decoding made that a fraction of pixels.

    Returns:
        uint8 [H,W,3].
    """
    width, height = extent or image.size
    if spec.fit != "crop":
        return _of_the_whole(image, spec, (width, height))
    left, top, right, bottom = region(width, height, spec)
    resized_height = _resized(width, height, spec)[1]
    filtered, radius = _FILTERS[spec.interpolation]
    # Rows first, columns second, each rounded to whole levels, as Pillow does when it resizes a whole picture. Given a
    # box in both directions it does not always do so.
    margin = math.ceil(radius * max(1, height / resized_height)) + 1  # the rows that the filter reaches beyond the crop
    first, last = max(0, math.floor(top) - margin), min(image.height, math.ceil(bottom) + margin)
    rows = image.resize((spec.size[1], last - first), filtered, box=(left, first, right, last))
    return np.array(rows.resize(spec.size[::-1], filtered, box=(0, top - first, spec.size[1], bottom - first)))


def _of_the_whole(image: Image.Image, spec: Input, extent: Extent) -> NDArray[np.uint8]:
    """The middle of the whole picture, resized to about the size that the model sees; black where it is smaller."""
    (height, width), (resized_width, resized_height) = spec.size, _resized(*extent, spec)
    resized = image.resize((resized_width, resized_height), _FILTERS[spec.interpolation][0], box=(0, 0, *extent))
    left, top = (_offset(*sides, spec.crop_offset) for sides in ((resized_width, width), (resized_height, height)))
    return np.array(resized.crop((left, top, left + width, top + height)))


def region(width: float, height: float, spec: Input) -> tuple[float, float, float, float]:
    """Which part of an upright picture the model sees: left, top, right, bottom, in its pixels.

    With `fit: pad` it reaches beyond the picture, as far as the black does.
    """
    resized_width, resized_height = _resized(width, height, spec)
    left, right = _crop_edges(width, resized_width, spec.size[1], spec.crop_offset)
    top, bottom = _crop_edges(height, resized_height, spec.size[0], spec.crop_offset)
    return left, top, right, bottom


def _resized(width: float, height: float, spec: Input) -> tuple[int, int]:
    """Width and height of the resized picture."""
    scaled_height, scaled_width = spec.scaled
    if spec.fit == "squash":
        return scaled_width, scaled_height
    if spec.fit == "pad":
        factor = min(scaled_width / width, scaled_height / height)
        return max(1, round(width * factor)), max(1, round(height * factor))
    long = int(scaled_width * max(width, height) / min(width, height))
    return (scaled_width, long) if width <= height else (long, scaled_width)


def _crop_edges(side: float, resized: int, crop: int, rounding: CropOffset) -> tuple[float, float]:
    """Where a crop from the middle of a resized side begins and ends, in pixels of the original side."""
    offset = _offset(resized, crop, rounding)
    return offset * side / resized, (offset + crop) * side / resized


def _offset(resized: int, crop: int, rounding: CropOffset) -> int:
    """Where a crop from the middle of a resized side begins; below 0 if that is smaller.

    Of an odd number of black pixels, the larger half is at the end, as with timm.
    """
    if resized < crop:
        return -((crop - resized) // 2)
    return round((resized - crop) / 2) if rounding == "round" else (resized - crop) // 2


def normalize(pixels: Tensor, spec: Input) -> Tensor:
    """Uint8 [N,H,W,3] in RGB to float32 [N,C,H,W] in the model's channels: scaled, less the mean, over the deviation.

    The memory order stays that of the pixels, which is torch's channels_last.
    """
    mean, std = (torch.tensor(values, device=pixels.device) for values in (spec.mean, spec.std))
    floats = _in_channels(pixels, spec)
    scale = spec.statistics.scale
    scaled = floats.div_(255) if scale == UNIT_SCALE else floats.mul_(scale)  # torchvision divides
    return scaled.sub_(mean).div_(std).permute(0, 3, 1, 2)


def _in_channels(pixels: Tensor, spec: Input) -> Tensor:
    """RGB levels [N,H,W,3] as float32 [N,H,W,C], a new tensor."""
    floats = pixels.to(torch.float32)
    if spec.channels == "bgr":
        return floats.flip(-1)
    if spec.channels == "grey":  # every number here is whole and below 2^24, so float32 is exact
        weighted = floats.mul(torch.tensor(GREY_WEIGHTS, device=pixels.device)).sum(-1, keepdim=True)
        return weighted.add(GREY_SHIFT / 2).div(GREY_SHIFT).floor()
    return floats


def laid_out(floats: Tensor, layout: Layout) -> Tensor:
    """Floats [N,C,H,W] in the order that a program takes."""
    return floats if layout == "nchw" else floats.permute(0, 2, 3, 1)
