"""Resizes a part of a picture in one direction, then in the other, each rounded to whole levels, as Pillow does it.

The work is done by fast_image_resize, with the vector instructions of the processor, or without them in the same
levels. Its weights have 15 bits and Pillow's have 22, so a value that is just about a half of a level is sometimes
rounded to the other side.
"""

import math
import platform
import sys
from typing import Final

from PIL import Image

from classifier.input import Interpolation

# cykooz-resizer has no wheel for Linux on ARM, where Pillow resizes, in six times the time. pyproject.toml has the same
# condition.
HAS_WHEEL: Final = sys.platform != "linux" or platform.machine() == "x86_64"

if HAS_WHEEL:
    from cykooz_resizer import CropBox, FilterType, ResizeAlg, ResizeOptions, Resizer

    _ALGORITHMS: Final = {
        "bilinear": ResizeAlg.convolution(FilterType.bilinear),
        "bicubic": ResizeAlg.convolution(FilterType.catmull_rom),  # which is Pillow's
        "lanczos": ResizeAlg.convolution(FilterType.lanczos3),
        "nearest": ResizeAlg.nearest(),
    }

# Pillow's filter, and how many pixels it reaches to each side at the original size.
_FILTERS: Final[dict[Interpolation, tuple[Image.Resampling, int]]] = {
    "bilinear": (Image.Resampling.BILINEAR, 1),
    "bicubic": (Image.Resampling.BICUBIC, 2),
    "lanczos": (Image.Resampling.LANCZOS, 3),
    "nearest": (Image.Resampling.NEAREST, 1),
}

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the picture
Size = tuple[int, int]  # width, height


def resample(image: Image.Image, box: Box, size: Size, interpolation: Interpolation) -> Image.Image:
    """Resize a part of a picture, with antialiasing (but for `nearest`), in this thread.

    The filter sees the pixels beside the part too, as if the whole picture were resized and then cropped. But no more
    is computed than the result needs: of a picture of 1 x 20,000, as much as of a square one.

    Args:
        image: the picture, in RGB or L.
        box: the part. Its edges may be fractions of a pixel, and lie within the picture.
        size: of the result.
        interpolation: how to resize.

    Returns:
        A picture of the same mode.
    """
    left, top, right, bottom = box
    width, height = size
    radius = _FILTERS[interpolation][1]
    if _begins_with_height(image.size, (width / (right - left), height / (bottom - top))):
        first, last = _reached(left, right, width, radius, image.width)
        low = _resized(image, (first, top, last, bottom), (last - first, height), interpolation)
        return _resized(low, (left - first, 0, right - first, height), size, interpolation)
    first, last = _reached(top, bottom, height, radius, image.height)
    narrow = _resized(image, (left, first, right, last), (width, last - first), interpolation)
    return _resized(narrow, (0, top - first, width, bottom - first), size, interpolation)


def _begins_with_height(size: Size, factors: tuple[float, float]) -> bool:
    """Whether Pillow resizes the height of a whole picture first: where that loses more than twice as many pixels."""
    fewer_columns, fewer_rows = (side - round(side * factor) for side, factor in zip(size, factors, strict=True))
    return fewer_rows > max(0, 2 * fewer_columns)


def _reached(begin: float, end: float, resized: int, radius: int, side: int) -> tuple[int, int]:
    """The pixels of one side that the filter reaches when the stretch from `begin` to `end` is resized."""
    margin = math.ceil(radius * max(1.0, (end - begin) / resized)) + 1
    return max(0, math.floor(begin) - margin), min(side, math.ceil(end) + margin)


def with_vectors(image: Image.Image, box: Box, size: Size, interpolation: Interpolation) -> Image.Image:
    """Resize by fast_image_resize, which takes the edges as 64-bit floats."""
    left, top, right, bottom = box
    part = CropBox(left, top, min(right, image.width) - left, min(bottom, image.height) - top)
    result = Image.new(image.mode, size, None)
    # A resizer has buffers of its own, so each call gets one: none waits for another thread, or is held in a fork.
    Resizer().resize_pil(image, result, ResizeOptions(_ALGORITHMS[interpolation], crop_box=part))
    return result


def with_pillow(image: Image.Image, box: Box, size: Size, interpolation: Interpolation) -> Image.Image:
    """Resize by Pillow, which takes the edges as 32-bit floats, so that weights are shifted a little."""
    return image.resize(size, _FILTERS[interpolation][0], box)


_resized: Final = with_vectors if HAS_WHEEL else with_pillow
