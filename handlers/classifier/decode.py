"""Decodes the bytes of a file, of any accepted format and mode, to an upright RGB picture."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from classifier import kinds, tiff
from classifier.depth import colour_levels, grey_levels, is_deep, lower_bytes, needs_lower_bytes
from classifier.large_pictures import is_large, turn_of_large_picture
from classifier.limits import Reader, check_scans, restrain_pillow
from classifier.problems import EmptyBody, ImageBroken, ImageTooLarge, NotAnImage, Problem

# Pillow's names of the accepted formats. JPEG includes MPO, which phones write: a JPEG with further pictures.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

logger = logging.getLogger(__name__)

_JPEG = ("JPEG", "MPO")
_SIXTEEN_BIT_COLOURS = ("PNG", "TIFF")  # the formats that have them
_GREY_STEPS = {"L;2": 85, "L;4": 17}  # levels between two values of a PNG of two or four bits
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
See = Callable[[str, int], None]  # told the format and the number of pixels of a picture


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """Decode one picture: its first frame, upright by EXIF, in RGB, with transparency laid over white.

    Raises:
        EmptyBody: there are no bytes.
        ImageTooLarge: the header declares more than `max_pixels`; nothing was decoded.
        NotAnImage: no decoder knows the format of the bytes.
        ImageNotSupported: the picture is of a kind, within the accepted formats, that no decoder here reads.
        ImageBroken: the picture is truncated or corrupt.
    """
    image, _ = decode_scaled(data, max_pixels, max_pixels)
    return image


def decode_scaled(
    data: bytes, max_pixels: int, short_side: int, see: See = lambda *_: None
) -> tuple[Image.Image, Extent]:
    """Decode one picture no larger than needed: as `decode`, for a caller that will scale it down anyway.

    A JPEG whose short side has at least twice the `short_side` pixels that are needed is decoded at a half, a quarter
    or an eighth of its size, in a fraction of the time.

    Args:
        data: the bytes of the picture.
        max_pixels: how many pixels it may have.
        short_side: how many pixels of its short side are needed.
        see: told what the header says, before anything is decoded.

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
    see("JPEG" if image.format in _JPEG else str(image.format), pixels)
    if image.format in _JPEG:
        check_scans(data, pixels, max_pixels)
    extent: Extent = image.size
    broken = f"the {image.format} data is truncated or corrupt"
    with _decoding(broken):
        kinds.check(image, data)
        _set_right(image)
        drafted = image.draft(None, (short_side, short_side)) if _scales(image, data, short_side) else None
    if drafted is not None:
        extent = drafted[1][2:]
    with turn_of_large_picture() if is_large(image, pixels) else nullcontext():
        loaded, turn = _load(image, data, broken)
        del image
        loaded = to_rgb(loaded)  # converted before it is turned, under one name: at most two copies are in memory
        loaded = loaded if turn is None else loaded.transpose(turn)
    return loaded, extent[::-1] if turn in _LYING else extent


def prepare(image: Image.Image, max_pixels: int) -> Image.Image:
    """Make a Pillow picture upright by EXIF, in RGB, with transparency laid over white.

    The given picture stays as it is.

    Raises:
        ImageTooLarge: the picture has more than `max_pixels`.
        ImageNotSupported: it comes from a TIFF of a kind that Pillow misreads.
        ImageBroken: the picture was opened lazily, and its data is truncated or corrupt.
    """
    _check_size(image, max_pixels)
    with _decoding("the picture is truncated, corrupt or closed"):
        tiff.check(image)
        _set_right(image)
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


def _scales(image: Image.Image, data: bytes, short_side: int) -> bool:
    """Whether a picture can be decoded at half of its size or less: libjpeg does so, except for lossless JPEGs."""
    return image.format in _JPEG and min(image.size) >= 2 * short_side and not kinds.is_lossless(data)


def _load(image: ImageFile.ImageFile, data: bytes, broken: str) -> tuple[Image.Image, Image.Transpose | None]:
    """Load an opened picture from its file, with all bits that its levels depend on; and how to make it upright."""
    lower = lower_bytes(image) if image.format in _SIXTEEN_BIT_COLOURS else None
    try:
        with _decoding(broken):
            image.load()
    except ImageBroken as error:
        raise kinds.undecoded(data) or error from error.__cause__
    turn = _turn(image)
    if lower is None or not needs_lower_bytes(image):
        return image, turn
    with _decoding(broken):
        return colour_levels(image, lambda: lower(_open(data))), turn


def _set_right(image: Image.Image) -> None:
    """Tell Pillow what it overlooks in a picture that is opened and not yet loaded."""
    tiff.set_right(image)
    if not isinstance(image, PngImageFile) or image.mode != "L" or not image.tile:
        return
    if "transparency" in image.info:  # Pillow scales the greys of two and four bits, but not the transparent one
        image.info["transparency"] *= _GREY_STEPS.get(str(image.tile[0].args), 1)


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(f"{width} x {height} pixels are more than the limit of {max_pixels}")


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to RGB.

    Transparency is laid over white. `classifier.depth` says how the grey levels of deep pictures become eight bits.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if is_deep(image):
        return Image.fromarray(grey_levels(image)).convert("RGB")
    if image.mode == "La":  # which Pillow converts to nothing else
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", rgba.size, "white")
        white.paste(rgba, mask=rgba)
        return white
    return image.convert("RGB")


def _open(data: bytes) -> ImageFile.ImageFile:
    try:
        with _decoding("the header of the picture is truncated or corrupt"):
            return Image.open(Reader(data), formats=FORMATS)
    except ImageBroken as broken:
        raise _why_closed(broken, data) from broken.__cause__


def _why_closed(broken: ImageBroken, data: bytes) -> Problem:
    """The problem of a file that Pillow cannot open."""
    if isinstance(broken.__cause__, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ImageTooLarge(str(broken.__cause__))
    if unsupported := kinds.unopened(data):
        return unsupported
    if not isinstance(broken.__cause__, UnidentifiedImageError):
        return broken
    known = next((name for name in FORMATS if _accepts(name, data[:_MAGIC_BYTES])), None)
    if known is None:
        return NotAnImage(_no_image(data))
    return ImageBroken(f"the bytes begin like {known}, but its header is truncated or corrupt")


def _no_image(data: bytes) -> str:
    none = f"none of {', '.join(FORMATS)} begins with these bytes"
    other = kinds.other_format(data)
    return none if other is None else f"{none}, which are those of {other}"


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
