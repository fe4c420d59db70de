"""Cuts the area that a model sees out of an RGB picture."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifier.decode import Extent
from classifier.input import CropOffset, Input
from classifier.resample import resample


def resize_and_crop(image: Image.Image, spec: Input, extent: Extent | None = None) -> NDArray[np.uint8]:
    """Make an RGB picture the size that the model sees.

    The values are those of torchvision's `Resize`, then `CenterCrop`, but one in a thousand differs by a level
    (`classifier.resample` says why). Of a picture that is more than twice as high as wide, one in six may, because
    Pillow begins with its height. More may differ where the picture was decoded scaled.

    Args:
        image: the picture, in RGB.
        spec: the recipe's input.
        extent: the picture's exact size, if scaled decoding made that a fraction of pixels.

    Returns:
        uint8 [H,W,3].
    """
    if spec.channels == "grey":  # before resizing, as libraries do
        return np.array(_fitted(image.convert("L"), spec, extent or image.size).convert("RGB"))
    return np.array(_fitted(image, spec, extent or image.size))


def _fitted(image: Image.Image, spec: Input, extent: Extent) -> Image.Image:
    """The picture in the model's size, in its own mode."""
    height, width = spec.size
    if spec.fit == "crop":
        return resample(image, region(*extent, spec), (width, height), spec.interpolation)
    size = resized(*extent, spec)
    whole = resample(image, (0, 0, *extent), size, spec.interpolation)
    left, top = (_offset(*sides, spec.crop_offset) for sides in zip(size, (width, height), strict=True))
    return whole.crop((left, top, left + width, top + height))  # black where the picture does not reach


def region(width: float, height: float, spec: Input) -> tuple[float, float, float, float]:
    """Which part of an upright picture the model sees: left, top, right, bottom, in its pixels.

    With `fit: pad` it reaches beyond the picture, as far as the black does.
    """
    resized_width, resized_height = resized(width, height, spec)
    left, right = _crop_edges(width, resized_width, spec.size[1], spec.crop_offset)
    top, bottom = _crop_edges(height, resized_height, spec.size[0], spec.crop_offset)
    return left, top, right, bottom


def resized(width: float, height: float, spec: Input) -> tuple[int, int]:
    """Width and height to which a whole picture is resized, before the middle is cut out."""
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
