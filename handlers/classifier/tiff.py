"""The kinds of TIFF: which are decoded, what another one is called, and the facts of one that levels depend on.

TIFF is a family of formats. Pillow reads most of what programs write, but opens some files that it then decodes to
something else than they show. Those are refused here, or set right where it takes a line.
"""

import sys
from collections.abc import Iterator
from typing import Any, Final

from PIL import Image, ImagePalette, TiffImagePlugin

from classifier.limits import Reader
from classifier.problems import ImageNotSupported

# Tags (TIFF 6.0; 50706 is of DNG, 34892 and 32803 of TIFF/EP).
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_FILL, _STRIPS, _SAMPLES, _MAX, _PLANAR, _COLOURS, _TILES = 266, 273, 277, 281, 284, 320, 324
_INKS, _EXTRA, _FORMAT, _SMIN, _SMAX, _SUBSAMPLING, _DNG = 332, 338, 339, 340, 341, 530, 50706

_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_WHITE_IS_ZERO, _YCBCR, _CFA, _LINEAR_RAW = 0, 6, 32803, 34892
_UNCOMPRESSED: Final = 1
_PREVIEW, _MASK = 1, 4  # bits of _SUBFILE
_SEPARATE: Final = 2  # planes
_CMYK_INKS: Final = 1
_MANY_SAMPLES: Final = 1000  # a pixel; more are not a picture
_RAW_CAMERAS: Final = (_CFA, _LINEAR_RAW)
_PHOTOMETRICS: Final = {
    0: "white-is-zero grey", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIE L*a*b*",
    9: "ICC L*a*b*", 10: "ITU L*a*b*", _CFA: "camera raw", 32844: "LogL", 32845: "LogLuv", _LINEAR_RAW: "camera raw",
}  # fmt: skip
_FORMATS: Final = {_UNSIGNED: "", _SIGNED: "signed", _FLOAT: "float", 4: "untyped", 5: "complex", 6: "complex float"}
_COMPRESSIONS: Final = {
    7: "JPEG", 34712: "JPEG 2000", 34887: "LERC", 34933: "PNG", 34934: "JPEG XR", 50001: "WebP", 50002: "JPEG XL",
    52546: "JPEG XL",
}  # fmt: skip
_WEBP: Final = 50001  # Pillow's own builds cannot, others can; a kind is supported everywhere or nowhere
_BIG_ENDIAN_BIG: Final = b"MM\0+"  # which Pillow takes for a small one
_BIG_ENDIAN_RAWMODES: Final = ("I;16BS", "I;32BS", "F;32BF")
_CANON_RAW: Final = b"II*\0\x10\0\0\0CR\2"


def check(image: Image.Image) -> None:
    """Refuse an opened TIFF that Pillow would decode to something else than it shows. Other formats pass.

    Raises:
        ImageNotSupported: the detail names the kind.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        for kind in _misread(image):
            raise _not_supported(kind)


def set_right(image: Image.Image) -> None:
    """Tell Pillow what it overlooks in a TIFF that is opened and not yet loaded. Other formats stay as they are."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or not image.tile:
        return
    tile = image.tile[0]
    if tile.codec_name == "libtiff":  # it returns samples in this machine's order of bytes, not in the file's
        rawmode, *others = tuple(tile.args or ())
        if rawmode in _BIG_ENDIAN_RAWMODES and sys.byteorder == "little":
            image.tile = [tile._replace(args=(rawmode.replace("B", ""), *others))]
    colours: Any = image.tag_v2.get(_COLOURS)
    if image.mode in ("P", "PA") and max(colours) <= 0xFF:  # some programs write 8 bits where 16 belong
        image.palette = ImagePalette.raw("RGB;L", bytes(colours))


def unreadable_kind(data: bytes) -> ImageNotSupported | None:
    """The problem of a TIFF that Pillow cannot open although it is whole; None if it is broken, or no TIFF."""
    if data.startswith(_BIG_ENDIAN_BIG):
        return _not_supported("BigTIFF in big-endian order")
    try:
        tags = _directory(data)
        return _not_supported(_described(tags)) if _is_whole(tags) and not _is_known(tags) else None
    except Exception:  # reading hostile bytes raises nearly anything: the file is broken
        return None


def is_unsigned(image: Image.Image) -> bool:
    """Whether a picture comes from a TIFF of unsigned integers."""
    return _number(_tags(image), _FORMAT, _UNSIGNED if _tags(image) else 0) == _UNSIGNED


def is_white_zero(image: Image.Image) -> bool:
    """Whether a picture comes from a TIFF in which 0 is white."""
    tags = _tags(image)
    return bool(tags) and _number(tags, _PHOTOMETRIC, _WHITE_IS_ZERO) == _WHITE_IS_ZERO


def bits(image: Image.Image) -> int:
    """How many bits a sample has by the TIFF that a picture comes from; 16 if it comes from none."""
    return _number(_tags(image), _BITS, 16)


def stated_range(image: Image.Image) -> tuple[float | None, float | None]:
    """The least and the largest sample that the TIFF of a picture states; None for what it does not state."""
    tags = _tags(image)
    largest = _real(_value(tags, _SMAX))
    return _real(_value(tags, _SMIN)), _real(_value(tags, _MAX)) if largest is None else largest


def with_order(rawmode: str) -> str:
    """Pillow's name of a layout of samples, with the order of bytes of this machine where it says only "native"."""
    return rawmode[:-1] + {"little": "L", "big": "B"}[sys.byteorder] if rawmode.endswith(";16N") else rawmode


def _misread(image: TiffImagePlugin.TiffImageFile) -> Iterator[str]:
    """What kinds a TIFF is of that Pillow opens, but misreads."""
    tags = image.tag_v2
    compression, samples = _number(tags, _COMPRESSION, _UNCOMPRESSED), _number(tags, _SAMPLES, 1)
    subfile = _number(tags, _SUBFILE, 0)
    if _DNG in tags or subfile & _PREVIEW:
        yield "camera raw, or another file whose first picture is only a preview"
    if subfile & _MASK:
        yield "a mask in place of the first picture"
    if compression == _WEBP or (compression == 7 and _number(tags, _BITS, 1) > 8):
        yield _described(tags)
    if _number(tags, _FORMAT, _UNSIGNED) == _SIGNED and _number(tags, _BITS, 1) == 8:
        yield _described(tags)
    if _number(tags, _PLANAR, 1) == _SEPARATE and samples > 1 and not _reads_planes(image, compression):
        yield f"{_described(tags)} in separate planes"
    if image.mode == "YCbCr" and compression == _UNCOMPRESSED and _value(tags, _SUBSAMPLING) != (1, 1):  # else (2, 2)
        yield "uncompressed YCbCr with subsampling"
    if image.mode == "CMYK" and _number(tags, _INKS, _CMYK_INKS) != _CMYK_INKS:
        yield "inks other than CMYK"


def _reads_planes(image: TiffImagePlugin.TiffImageFile, compression: int) -> bool:
    """Whether Pillow reads the separate planes of a picture."""
    if image.mode in ("LA", "La", "PA"):
        return False
    if compression != _UNCOMPRESSED:
        return True
    plain = _number(image.tag_v2, _BITS, 1) == 8 and _value(image.tag_v2, _EXTRA) in (None, (2,))
    return plain and image.mode in ("RGB", "RGBA", "CMYK")


def _directory(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    reader = Reader(data)
    directory = TiffImagePlugin.ImageFileDirectory_v2(reader.read(16 if data[2:3] == b"+" else 8))
    reader.seek(directory.next)
    directory.load(reader)
    return directory


def _is_whole(tags: Any) -> bool:
    """Whether a directory has all that a picture needs, of whatever kind."""
    width, height = tags.get(_WIDTH), tags.get(_HEIGHT)
    sized = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    of_each = tags.get(_BITS, (1,))
    samples = _number(tags, _SAMPLES, 1)
    return sized and (_STRIPS in tags or _TILES in tags) and len(of_each) in (1, samples) and samples < _MANY_SAMPLES


def _is_known(tags: Any) -> bool:
    """Whether Pillow knows the kind of a TIFF; it looks the kind up in its tables as here."""
    samples = _number(tags, _SAMPLES, 1)
    of_each, formats, extra = tags.get(_BITS, (1,)), tags.get(_FORMAT, (1,)), tags.get(_EXTRA, ())
    of_each = of_each * samples if len(of_each) == 1 else of_each
    compression = _number(tags, _COMPRESSION, _UNCOMPRESSED)
    if _number(tags, _PLANAR, 1) == _SEPARATE and extra and max(extra) == 0:  # Pillow drops these planes …
        if compression == _UNCOMPRESSED:
            return False  # … and stumbles over them later
        of_each, extra = of_each[: -len(extra)], ()
    formats = formats[:1] if len(set(formats)) == 1 else formats
    photometric, fill = _number(tags, _PHOTOMETRIC, 0), _number(tags, _FILL, 1)
    key = (tags.prefix, photometric, formats, fill, of_each, extra)
    return compression in TiffImagePlugin.COMPRESSION_INFO and key in TiffImagePlugin.OPEN_INFO


def _described(tags: Any) -> str:
    """The kind of a TIFF in words, from its directory."""
    photometric, compression = _number(tags, _PHOTOMETRIC, 0), _number(tags, _COMPRESSION, _UNCOMPRESSED)
    form = _FORMATS.get(_number(tags, _FORMAT, _UNSIGNED), "unknown")
    colours = _PHOTOMETRICS.get(photometric, f"colours of kind {photometric}")
    words = [f"{_number(tags, _BITS, 1)}-bit", form, colours]
    if (samples := _number(tags, _SAMPLES, 1)) > 1:
        words.append(f"with {samples} samples a pixel")
    if compression in _COMPRESSIONS or compression not in TiffImagePlugin.COMPRESSION_INFO:
        words.append(f"compressed by {_COMPRESSIONS.get(compression, f'method {compression}')}")
    return " ".join(word for word in words if word)


def _not_supported(kind: str) -> ImageNotSupported:
    return ImageNotSupported(f"this kind of TIFF is not supported: {kind}")


def is_canon_raw(data: bytes) -> bool:
    """Whether a file is a Canon CR2, whose first picture is a preview: its mark stands before the first directory."""
    return data.startswith(_CANON_RAW)


def _tags(image: Image.Image) -> Any:
    return image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}


def _number(tags: Any, tag: int, otherwise: int) -> int:
    """An integer of a directory, the first one of a tag with several."""
    value = _value(tags, tag)
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else otherwise


def _value(tags: Any, tag: int) -> Any:
    """The value of a tag; None if it is missing or cannot be read, which only shows when it is asked for."""
    try:
        return tags.get(tag)
    except Exception:  # reading hostile bytes raises nearly anything
        return None


def _real(value: object) -> float | None:
    values = value if isinstance(value, tuple) else (value,)
    numbers = [float(number) for number in values if isinstance(number, int | float)]
    return max(numbers) if numbers and max(numbers) < float("inf") else None
