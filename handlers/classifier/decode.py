"""Decodes the bytes of a file, of any accepted format and mode, to an upright RGB picture."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from classifier.large_pictures import is_large, turn_of_large_picture
from classifier.limits import Reader, check_scans, restrain_pillow
from classifier.problems import EmptyBody, ImageBroken, ImageTooLarge, NotAnImage, Problem

# Pillow's names of the accepted formats. JPEG includes MPO, which phones write: a JPEG with further pictures.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

logger = logging.getLogger(__name__)

_JPEG = ("JPEG", "MPO")
_WHITE = 255
_TURNS: dict[Any, Image.Transpose] = {  # EXIF orientation: how to make the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = {_TURNS[orientation] for orientation in (5, 6, 7, 8)}  # the turns that swap width and height
_MAGIC_BYTES = 16  # as many as Pillow hands to a format's `accept`

restrain_pillow()

Extent = tuple[float, float]  # exact width and height, in pixels of the decoded picture, which may be scaled down


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """Decode one picture: its first frame, upright by EXIF, in RGB, with transparency laid over white.

    Raises:
        EmptyBody: there are no bytes.
        ImageTooLarge: the header declares more than `max_pixels`; nothing was decoded.
        NotAnImage: no decoder knows the format of the bytes.
        ImageBroken: the picture is truncated or corrupt.
    """
    image, _ = decode_scaled(data, max_pixels, max_pixels)
    return image


def decode_scaled(data: bytes, max_pixels: int, short_side: int) -> tuple[Image.Image, Extent]:
    """Decode one picture no larger than needed: as `decode`, for a caller that will scale it down anyway.

    A JPEG whose short side has at least twice the `short_side` pixels that are needed is decoded at a half, a quarter
    or an eighth of its size, in a fraction of the time.

    Returns:
        The picture, and its exact extent: a quarter of 4510 pixels is 1127.5, so the last pixel counts only half.

    Raises:
        As `decode`.
    """
    if not data:
        raise EmptyBody("the body is empty; send the bytes of a picture")
    image = _open(data)
    _check_size(image, max_pixels)
    pixels = image.width * image.height
    if image.format in _JPEG:
        check_scans(data, pixels, max_pixels)
    extent: Extent = image.size
    broken = f"the {image.format} data is truncated or corrupt"
    with _decoding(broken):
        drafted = image.draft(None, (short_side, short_side))  # does nothing for other formats
    if drafted is not None:
        extent = drafted[1][2:]
    with turn_of_large_picture() if is_large(image, pixels) else nullcontext():
        with _decoding(broken):
            image.load()
        turn = _turn(image)
        image = to_rgb(image)  # converted before it is turned, under one name: at most two copies are in memory
        image = image if turn is None else image.transpose(turn)
    return image, extent[::-1] if turn in _LYING else extent


def prepare(image: Image.Image, max_pixels: int) -> Image.Image:
    """Make a Pillow picture upright by EXIF, in RGB, with transparency laid over white.

    The given picture stays as it is.

    Raises:
        ImageTooLarge: the picture has more than `max_pixels`.
        ImageBroken: the picture was opened lazily, and its data is truncated or corrupt.
    """
    _check_size(image, max_pixels)
    with _decoding("the picture is truncated, corrupt or closed"):
        image.load()
    turn, rgb = _turn(image), to_rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


@contextmanager
def _decoding(otherwise: str) -> Iterator[None]:
    """Turn any exception that Pillow raises on a client's bytes into `ImageBroken`.

    Decoders raise nearly any exception on hostile bytes; to the client they all mean the same. The block holds only
    calls of Pillow, so that a bug in this program is not taken for a broken picture, and neither is a lack of memory.

    Raises:
        ImageBroken: with the given text.
    """
    try:
        yield
    except (Problem, MemoryError):
        raise
    except Exception as error:
        raise ImageBroken(otherwise) from error


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(f"{width} x {height} pixels are more than the limit of {max_pixels}")


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to RGB.

    Transparency is laid over white. Sixteen-bit greys keep their full range. 32-bit integers and floats (modes I and F)
    declare no range, so their own minimum and maximum become black and white.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_deep_to_eight_bits(image)).convert("RGB")
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", rgba.size, "white")
        white.paste(rgba, mask=rgba)
        return white
    return image.convert("RGB")


def _open(data: bytes) -> Image.Image:
    try:
        with _decoding("the header of the picture is truncated or corrupt"):
            return Image.open(Reader(data), formats=FORMATS)
    except ImageBroken as broken:
        raise _why_closed(broken, data) from broken.__cause__


def _why_closed(broken: ImageBroken, data: bytes) -> Problem:
    """The problem of a file that Pillow cannot open."""
    if isinstance(broken.__cause__, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ImageTooLarge(str(broken.__cause__))
    if not isinstance(broken.__cause__, UnidentifiedImageError):
        return broken
    known = next((name for name in FORMATS if _accepts(name, data[:_MAGIC_BYTES])), None)
    if known is None:
        return NotAnImage(f"none of {', '.join(FORMATS)} begins with these bytes")
    return ImageBroken(f"the bytes begin like {known}, but its header is truncated or corrupt")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How to make a picture upright, by its EXIF orientation; None if it has none, or none that can be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception as error:  # broken metadata does not make a good picture bad
        logger.info("ignoring unreadable EXIF: %s", type(error).__name__)
        return None
    return _TURNS.get(orientation)


def _accepts(name: str, prefix: bytes) -> bool:
    _, accept = Image.OPEN[name]
    return accept is not None and accept(prefix) is True


def _deep_to_eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """A picture of mode I;16, I or F as uint8 [H,W]."""
    grey: NDArray[Any] = np.asarray(image)
    if grey.dtype.kind == "u":
        shifted = (grey >> 8).astype(np.uint8)
        if "transparency" in image.info:  # a PNG's transparent grey
            shifted[grey == image.info["transparency"]] = _WHITE
        return shifted
    values = grey.astype(np.float32)
    del grey  # four bytes a pixel, and the picture may be large
    finite = np.isfinite(values)
    low = float(values.min(where=finite, initial=np.inf)) if finite.any() else 0.0
    high = float(values.max(where=finite, initial=-np.inf)) if finite.any() else 0.0
    if not finite.all():
        np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
    values /= max(abs(low), abs(high)) or 1.0  # in place, to save memory; to -1…1, so that the span cannot overflow
    low, high = values.min(), values.max()
    values -= low
    values *= _WHITE / ((high - low) or 1.0)
    eight_bits: NDArray[np.uint8] = values.round(out=values).astype(np.uint8)
    return eight_bits
