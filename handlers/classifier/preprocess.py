"""Cuts the area that a model sees out of an RGB picture."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifier.decode import Extent
from classifier.input import CropOffset, Input, Interpolation

# Pillow's filter, and how many pixels it reaches to each side at the original size.
_FILTERS: dict[Interpolation, tuple[Image.Resampling, int]] = {
    "bilinear": (Image.Resampling.BILINEAR, 1),
    "bicubic": (Image.Resampling.BICUBIC, 2),
    "lanczos": (Image.Resampling.LANCZOS, 3),
    "nearest": (Image.Resampling.NEAREST, 1),
}

# How many times the crop's size is resized at most, so that every value is exact.
_MOST_RESIZED = 3


def resize_and_crop(image: Image.Image, spec: Input, extent: Extent | None = None) -> NDArray[np.uint8]:
    """Make an RGB picture the size that the model sees.

    Every value is the one of torchvision's `Resize`, then `CenterCrop`, which round to whole levels after the rows and
    after the columns, as Pillow does. But no more is computed than the crop needs: a picture of 1 x 20,000 costs no
    more than a square one. Roundings differ by a level only where a picture is more than three times as wide as high
    or twice as high as wide (Pillow begins with the columns then), or where it was decoded scaled.

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
    if spec.fit != "crop":
        return _of_the_whole(image, spec, extent)
    width, height = extent
    columns, rows = _stretches(width, height, spec)
    filtered, radius = _FILTERS[spec.interpolation]
    margin = math.ceil(radius * max(1, rows.scale)) + 1  # the rows that the filter reaches beyond the crop
    first, last = max(0, math.floor(rows.begin) - margin), min(image.height, math.ceil(rows.end) + margin)
    if last - first > image.height / 2:  # all rows cost less than to take some of them
        first, last = 0, image.height
    narrow = image.resize((columns.resized, last - first), filtered, (columns.begin, first, columns.end, last))
    narrow = narrow.crop((columns.skipped, 0, columns.skipped + spec.size[1], last - first))
    low = narrow.resize((narrow.width, rows.resized), filtered, (0, rows.begin - first, narrow.width, rows.end - first))
    return low.crop((0, rows.skipped, low.width, rows.skipped + spec.size[0]))


class _Stretch(NamedTuple):
    """A part of one side that is resized, of which the crop is a part."""

    begin: float  # in pixels of the picture
    end: float
    resized: int  # pixels that this part becomes
    skipped: int  # of those, how many lie before the crop

    @property
    def scale(self) -> float:
        """How many pixels of the picture become one."""
        return (self.end - self.begin) / self.resized


def _stretches(width: float, height: float, spec: Input) -> tuple[_Stretch, _Stretch]:
    """The part of the width, and of the height, to resize."""
    resized_width, resized_height = _resized(width, height, spec)
    return (
        _stretch(width, resized_width, spec.size[1], spec.crop_offset),
        _stretch(height, resized_height, spec.size[0], spec.crop_offset),
    )


def _stretch(side: float, resized: int, crop: int, rounding: CropOffset) -> _Stretch:
    """The shortest part around the crop that Pillow resizes as it resizes the whole side.

    Pillow takes the edges as 32-bit floats. Edges that are not exact in these would shift every weight a little, and
    some value that is just about a half of a level would be rounded to the other side. Edges at multiples of `step`
    are fractions by a power of two.
    """
    offset = _offset(resized, crop, rounding)
    before, after = offset, offset + crop
    if side == int(side):
        step = resized // math.gcd(resized, int(side))
        step //= step & -step  # without its powers of two
        first, last = before // step * step, min(-(-after // step) * step, resized)
        if last - first <= _MOST_RESIZED * crop:
            before, after = first, last
    return _Stretch(before * side / resized, after * side / resized, after - before, offset - before)


def _of_the_whole(image: Image.Image, spec: Input, extent: Extent) -> Image.Image:
    """The middle of the whole picture, resized to about the size that the model sees; black where it is smaller."""
    (height, width), (resized_width, resized_height) = spec.size, _resized(*extent, spec)
    resized = image.resize((resized_width, resized_height), _FILTERS[spec.interpolation][0], box=(0, 0, *extent))
    left, top = (_offset(*sides, spec.crop_offset) for sides in ((resized_width, width), (resized_height, height)))
    return resized.crop((left, top, left + width, top + height))


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
