"""The grey levels of deep pictures: how samples of more than eight bits become 0 (black) to 255 (white).

docs/http.md has the rule, under "Deep pictures".
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile

from classifier import tiff

_WHITE: Final = 255
_DEPTHS: Final = (8, 10, 12, 14, 16)  # bits that sensors have
_SIXTEEN: Final = 16
_FEW: Final = 16  # samples, of which none can be called an outlier
_REST: Final = 256  # one in so many samples, at either end, does not count when the width of the others is measured


def is_deep(image: Image.Image) -> bool:
    """Whether a picture has more than eight bits for a grey level."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def grey_levels(image: Image.Image) -> NDArray[np.uint8]:
    """The levels of a deep picture (mode I;16, I;16B, I or F): uint8 [H,W], 0 is black."""
    levels = _of_sixteen_bits(image) if image.mode.startswith("I;16") else _of_a_span(image)
    if tiff.is_white_zero(image):
        np.subtract(_WHITE, levels, out=levels)
    return levels


def _of_sixteen_bits(image: Image.Image) -> NDArray[np.uint8]:
    samples: NDArray[np.uint16] = np.asarray(image)
    bits = _significant_bits(image, int(samples.max(initial=0)))
    levels: NDArray[np.uint8] = np.minimum(samples >> (bits - 8), _WHITE).astype(np.uint8)
    if "transparency" in image.info:  # a PNG's transparent grey
        levels[samples == image.info["transparency"]] = _WHITE
    return levels


def _significant_bits(image: Image.Image, brightest: int) -> int:
    """How many bits of a picture's 16-bit samples count."""
    if image.format == "PNG":
        return _SIXTEEN
    stated = tiff.bits(image)
    if stated < _SIXTEEN:
        return stated
    _, largest = tiff.stated_range(image)
    most = max(brightest, int(largest or 0))
    return next((depth for depth in _DEPTHS if most < 1 << depth), _SIXTEEN)


def _of_a_span(image: Image.Image) -> NDArray[np.uint8]:
    samples: NDArray[Any] = np.asarray(image)
    if image.mode == "I" and tiff.is_unsigned(image):
        samples = samples.view(np.uint32)  # Pillow reads them as signed
    low, high = _span(image, samples)
    values = np.clip(samples, low, high)
    del samples  # four bytes a pixel, and the picture may be large: the rest is done in place
    if values.dtype.kind == "f":
        scale = max(abs(float(low)), abs(float(high))) or 1.0  # to -1…1, so that the span cannot overflow
        values[np.isnan(values)] = low
        values /= scale
        values -= float(low) / scale
        span = float(high) / scale - float(low) / scale
    else:
        values = values.view(np.uint32)  # differences of 32-bit integers wrap to their right values
        values -= np.array(low).view(np.uint32)
        span = float(int(high) - int(low))
        values = values.astype(np.float32)
    values *= _WHITE / (span or 1.0)
    levels: NDArray[np.uint8] = values.round(out=values).astype(np.uint8)
    return levels


def _span(image: Image.Image, samples: NDArray[Any]) -> tuple[Any, Any]:
    """The samples that become black and white, of the type of `samples`."""
    kind = samples.dtype.type
    least, largest = tiff.stated_range(image)
    if least is not None and largest is not None and least < largest and _holds(samples.dtype, least, largest):
        return kind(least), kind(largest)
    finite = samples[np.isfinite(samples)] if samples.dtype.kind == "f" else samples.flatten()
    if not finite.size:
        return kind(0), kind(0)
    if finite.size >= _FEW:
        ignored = -(-finite.size // _REST)
        finite.partition((ignored, finite.size - 1 - ignored))
        low, high = finite[ignored].item(), finite[finite.size - 1 - ignored].item()
        if low < high:
            width = high - low
            return (
                finite.min(where=finite >= low - width, initial=kind(low)),
                finite.max(where=finite <= high + width, initial=kind(high)),
            )
    return finite.min(), finite.max()


def _holds(dtype: np.dtype[Any], least: float, largest: float) -> bool:
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return bool(float(limits.min) <= least and largest <= float(limits.max))


# Pillow keeps only the upper byte of 16-bit colours. Read with the other byte order, it keeps the lower one.
_OTHER_ORDER: Final = {"RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B", "RGBX;16B": "RGBX;16L", "RGBX;16L": "RGBX;16B"}


def lower_bytes(image: ImageFile.ImageFile) -> Callable[[ImageFile.ImageFile], Image.Image] | None:
    """How to read the lower bytes of a picture's 16-bit colours.

    Args:
        image: the picture, opened but not loaded.

    Returns:
        A function that loads the lower bytes from the same file, opened again. None if the picture has no such colours.
    """
    raw = {_rawmode(tile.args) for tile in image.tile}
    if len(raw) != 1 or (other := _OTHER_ORDER.get(tiff.with_order(raw.pop()))) is None:
        return None

    def load(again: ImageFile.ImageFile) -> Image.Image:
        again.tile = [tile._replace(args=_with_rawmode(tile.args, other)) for tile in again.tile]
        again.load()
        return again

    return load


def _rawmode(args: Any) -> str:
    return str(args if isinstance(args, str) else args[0] if args else "")


def _with_rawmode(args: Any, rawmode: str) -> Any:
    return rawmode if isinstance(args, str) else (rawmode, *args[1:])


def needs_lower_bytes(image: Image.Image) -> bool:
    """Whether the upper bytes of a picture's 16-bit colours are not enough to know its levels."""
    if image.format == "PNG":
        return "transparency" in image.info  # the colour that is transparent has 16 bits too
    return _significant_bits(image, _brightest(image) << 8) < _SIXTEEN


def colour_levels(upper: Image.Image, load_lower: Callable[[], Image.Image]) -> Image.Image:
    """The levels of 16-bit colours; a colour that is transparent is white.

    Args:
        upper: RGB, the upper bytes; the opened file, with its facts.
        load_lower: returns RGB, the lower bytes.
    """
    if "transparency" in upper.info:
        return _without_transparent(upper, load_lower())
    unused = _SIXTEEN - _significant_bits(upper, _brightest(upper) << 8)
    from_upper, from_lower = [value << unused & 0xFF for value in range(256)], [n >> (8 - unused) for n in range(256)]
    lower = load_lower()
    bands = [  # one after the other, because the picture may be large
        ImageChops.add(upper.getchannel(band).point(from_upper), lower.getchannel(band).point(from_lower))
        for band in upper.getbands()
    ]
    del lower
    return Image.merge("RGB", bands)


def _without_transparent(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """The upper bytes, with white where upper and lower bytes are those of the transparent colour."""
    colour = upper.info["transparency"]
    upper_is, lower_is = ([sample >> 8 for sample in colour], [sample & 0xFF for sample in colour])
    masks = [
        band.point([_WHITE * (value == wanted) for value in range(256)])
        for picture, wanted_bytes in ((upper, upper_is), (lower, lower_is))
        for band, wanted in zip(picture.split(), wanted_bytes, strict=True)
    ]
    mask = masks[0]
    for other in masks[1:]:
        mask = ImageChops.darker(mask, other)
    opaque = upper.copy()
    del opaque.info["transparency"]
    opaque.paste("white", mask=mask)
    return opaque


def _brightest(image: Image.Image) -> int:
    return max(int(high) for _, high in image.getextrema())  # type: ignore[misc] # one pair for each of its bands
