"""What a file is that the decoder does not read: a good file must not be called broken, nor decoded to something else.

Within the accepted formats there are kinds that no decoder here reads, a JPEG of 12 bits for instance. They are not
supported. A file of another format is no picture to this program, and the detail says what it is.
"""

import struct
from itertools import islice
from typing import Final, NamedTuple

from PIL import Image

from classifier import tiff
from classifier.limits import MAX_SEGMENTS, segments
from classifier.problems import ImageNotSupported

# JPEG (T.81, table B.1): the second byte of a marker says how a frame is coded.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS: Final = 0xC3
_NO_DECODER: Final = {
    0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical", 0xCB: "lossless arithmetic",
    0xCD: "hierarchical arithmetic", 0xCE: "hierarchical arithmetic", 0xCF: "hierarchical arithmetic",
}  # fmt: skip
_JPEG_LS: Final = 0xF7  # T.87
_PRECISIONS: Final = range(2, 17)  # bits; lossless frames may have any of these

# BMP: how the pixels of a file are stored that Pillow cannot read, by the field `compression`.
_BMP_FIELDS, _BMP_ALPHA_FIELDS, _BMP_RUNS = 3, 6, (1, 2)
_BMP_COMPRESSIONS: Final = {4: "a JPEG", 5: "a PNG", 11: "CMYK", 12: "CMYK in runs", 13: "CMYK in runs"}
_BMP_DEPTHS: Final = (2, 64)  # bits a pixel that Pillow cannot read
_BMP_OTHER_HEADERS: Final = range(16, 65)  # OS/2's second version, which may be cut off
_BMP_READABLE_HEADERS: Final = (40, 52, 56, 64)
_BMP_END: Final = b"\0\1"  # the last code of runs

# HEIF's brands (ISO/IEC 23008-12): the codec of the pictures in the container that AVIF uses too.
_AV1: Final = {b"avif", b"avis"}
_CONTAINERS: Final = {b"mif1", b"mif2", b"msf1", b"miaf"}
_CODECS: Final = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC (HEVC)"),
    **dict.fromkeys((b"avci", b"avcs"), "HEIF with AVC"),
    **dict.fromkeys((b"j2ki", b"j2is"), "HEIF with JPEG 2000"),
    **dict.fromkeys((b"jpeg", b"jpgs"), "HEIF with JPEG"),
    **dict.fromkeys((b"vvic", b"vvis"), "HEIF with VVC"),
}
_MOST_BRANDS: Final = 64

_OTHER_FORMATS: Final = (
    (b"\0\0\0\x0cjP  ", "JPEG 2000"), (b"\xffO\xffQ", "JPEG 2000"), (b"\xff\n", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"II\xbc", "JPEG XR"), (b"%PDF-", "PDF"), (b"%!PS", "PostScript"),
    (b"8BPS", "a Photoshop document"), (b"v/1\x01", "OpenEXR"), (b"#?R", "Radiance HDR"), (b"DDS ", "DDS"),
    (b"SIMPLE  =", "FITS"), (b"\0\0\1\0", "ICO"), (b"icns", "ICNS"), (b"qoif", "QOI"), (b"\x01\xda", "SGI"),
    (b"gimp xcf", "a GIMP document"), (b"\x8aMNG", "MNG"), (b"\x8bJNG", "JNG"), (b"BPG\xfb", "BPG"),
    (b"FUJIFILMCCD-RAW", "camera raw"), (b"IIU\0", "camera raw"), (b"IIRO", "camera raw"), (b"MMOR", "camera raw"),
    (b"FOVb", "camera raw"), (b"PF\n", "PFM"), (b"Pf\n", "PFM"),
    *((b"P%d%c" % (kind, space), "Netpbm") for kind in range(1, 8) for space in b" \n\r\t"),
)  # fmt: skip
_DICOM_AT, _DICOM = 128, b"DICM"
_TEXT: Final = 1000  # bytes in which an SVG names itself


class Frame(NamedTuple):
    """What the header of a JPEG's frame says."""

    coding: int  # second byte of its marker
    precision: int  # bits
    height: int
    components: int


def frame(jpeg: bytes) -> Frame | None:
    """The first frame of a JPEG; None if there is none."""
    for found in islice(segments(jpeg), MAX_SEGMENTS):
        coding, header = found[1][1], jpeg[found.end(1) + 2 : found.end(1) + 8]
        if coding in _FRAMES or coding == _JPEG_LS:
            return Frame(coding, header[0], int.from_bytes(header[1:3]), header[5]) if len(header) == 6 else None
    return None


def is_lossless(jpeg: bytes) -> bool:
    """Whether a JPEG is of the lossless kind, which cannot be decoded at a smaller size."""
    found = frame(jpeg)
    return found is not None and found.coding == _LOSSLESS


def check(image: Image.Image, data: bytes) -> None:
    """Refuse a file that Pillow opens and would decode to something else than it shows.

    Raises:
        ImageNotSupported: the detail names the kind.
    """
    if image.format == "TIFF":
        tiff.check(image)
        if tiff.is_canon_raw(data):
            raise _not_supported("camera raw (CR2), whose first picture is only a preview")
    if image.format == "BMP" and (found := _bmp(data)) and found.alpha and found.bits == 16:
        raise _not_supported("a BMP of 16 bits a pixel with transparency")


def unopened(data: bytes) -> ImageNotSupported | None:
    """The problem of a file that Pillow cannot open: the kind that it is of, or None if it is broken or no picture."""
    kind = _jpeg_kind(data) or _bmp_kind(data) or _heif_kind(data) or _png_kind(data)
    return _not_supported(kind) if kind else tiff.unreadable_kind(data)


def undecoded(data: bytes) -> ImageNotSupported | None:
    """The problem of a file that Pillow opens and cannot decode: the kind that it is of, or None if it is broken."""
    kind = _jpeg_kind(data) or _png_kind(data)
    if not kind and (found := _bmp(data)) and found.compression in _BMP_RUNS and data.endswith(_BMP_END):
        kind = "a BMP in runs that leave pixels out"
    return _not_supported(kind) if kind else None


def other_format(data: bytes) -> str | None:
    """The name of a format that is not accepted; None if the bytes begin like none that is known."""
    if data[_DICOM_AT : _DICOM_AT + len(_DICOM)] == _DICOM:
        return "DICOM"
    if data[:1] == b"<" and b"<svg" in data[:_TEXT]:
        return "SVG"
    if data[4:12] == b"ftypcrx ":
        return "camera raw"
    return next((name for beginning, name in _OTHER_FORMATS if data.startswith(beginning)), None)


def _not_supported(kind: str) -> ImageNotSupported:
    return ImageNotSupported(f"this kind of picture is not supported: {kind}")


def _jpeg_kind(data: bytes) -> str | None:
    found = frame(data) if data.startswith(b"\xff\xd8\xff") else None
    if found is None:
        return None
    if found.coding == _JPEG_LS:
        return "JPEG-LS"
    if found.precision != 8 and found.precision in _PRECISIONS:
        return f"a JPEG of {found.precision} bits"
    if found.components not in (0, 1, 3, 4):
        return f"a JPEG of {found.components} components"
    if found.coding in _NO_DECODER:
        return f"a {_NO_DECODER[found.coding]} JPEG"
    return "a JPEG that says its height at its end" if found.height == 0 else None


class _Bmp(NamedTuple):
    size: int  # bytes of the header
    bits: int  # a pixel
    compression: int
    alpha: int  # mask of the transparency, if the pixels are bit fields


def _bmp(data: bytes) -> _Bmp | None:
    """What the header of a BMP says, if it is there."""
    if not data.startswith(b"BM") or len(data) < 34:
        return None
    size, bits, compression = (*struct.unpack_from("<I", data, 14), *struct.unpack_from("<HI", data, 28))
    has_alpha = size >= 56 and compression == _BMP_FIELDS and len(data) >= 70
    return _Bmp(size, bits, compression, struct.unpack_from("<I", data, 66)[0] if has_alpha else 0)


def _bmp_kind(data: bytes) -> str | None:
    found = _bmp(data)
    if found is None:
        return None
    if found.size in _BMP_OTHER_HEADERS and found.size not in _BMP_READABLE_HEADERS:
        return f"a BMP with a header of {found.size} bytes"
    if found.compression in _BMP_COMPRESSIONS:
        return f"a BMP that holds {_BMP_COMPRESSIONS[found.compression]}"
    if found.bits in (16, 24, 32) and found.compression in (_BMP_FIELDS, _BMP_ALPHA_FIELDS):
        return f"a BMP of {found.bits} bits a pixel with these bit fields"
    return f"a BMP of {found.bits} bits a pixel" if found.bits in _BMP_DEPTHS else None


def _heif_kind(data: bytes) -> str | None:
    size = int.from_bytes(data[:4])
    if data[4:8] != b"ftyp" or not 16 <= size <= len(data):
        return None
    end = min(size, 16 + 4 * _MOST_BRANDS)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end, 4))]
    if not _AV1.isdisjoint(brands):
        return None
    codec = next((_CODECS[brand] for brand in brands if brand in _CODECS), None)
    return codec or (None if _CONTAINERS.isdisjoint(brands[:1]) else "HEIF without AV1")


def _png_kind(data: bytes) -> str | None:
    return "a PNG of Apple's own kind (CgBI)" if data[:4] == b"\x89PNG" and data[12:16] == b"CgBI" else None
