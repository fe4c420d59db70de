"""Small files that promise much: to be refused before they take the memory or the time."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from PIL import Image

from scripts.hostile_files import chunk, encode, png, segment

_MANY: Final = 50_000  # pixels a side: 2,500 million in all
_ZEROS: Final = 100_000_000  # bytes that a text or a profile unpacks to


def too_large() -> Iterator[tuple[str, bytes]]:
    """Headers of more pixels than any recipe allows, by name, with hardly a pixel behind them."""
    yield "png-50000x50000", png(_MANY, _MANY)
    yield "png-9500x9500", png(9_500, 9_500)  # Pillow only remarks on that one
    yield "png-one-row", png(2**31 - 1, 1)
    yield "png-one-column", png(1, 2**31 - 1)
    yield "png-one-more-than-64-million", png(64_000_001, 1)
    yield "jpeg-65535x65535", sized_jpeg(65_535, 65_535)
    yield "gif-65000x65000", gif(65_000, 65_000)
    yield "bmp-50000x50000", bmp(_MANY, _MANY)
    yield "tiff-50000x50000", tiff(_MANY, _MANY)
    yield "webp-16383x16383", webp(16_383, 16_383)


def sized_jpeg(width: int, height: int) -> bytes:
    """A JPEG whose header promises that size, and which has eight by eight pixels."""
    small = encode(Image.new("L", (8, 8)), "JPEG")
    at = small.index(b"\xff\xc0") + 5  # behind marker, length and precision
    return small[:at] + struct.pack(">HH", height, width) + small[at + 4 :]


def gif(width: int, height: int) -> bytes:
    """A GIF of that size whose only frame is one pixel."""
    frame = b"," + struct.pack("<4HBB", 0, 0, 1, 1, 0, 2) + b"\0;"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + frame


def bmp(width: int, height: int) -> bytes:
    """The two headers of a BMP."""
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def tiff(width: int, height: int) -> bytes:
    """A grey TIFF of that size with one strip of one byte."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)


def webp(width: int, height: int) -> bytes:
    """The header of a lossless WebP."""
    frame = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)
    content = b"WEBPVP8L" + struct.pack("<I", len(frame)) + frame + bytes(len(frame) % 2)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def packed_metadata(picture: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Good pictures with metadata that unpack to a hundred megabytes."""
    good = encode(picture, "PNG")
    packed = zlib.compress(bytes(_ZEROS), 9)
    texts = {
        "png-ztxt": (b"zTXt", b"Comment\0\0" + packed),
        "png-itxt": (b"iTXt", b"Comment\0\1\0\0\0" + packed),
        "png-iccp": (b"iCCP", b"profile\0\0" + packed),
    }
    for name, (kind, content) in texts.items():
        yield name, after_header(good, chunk(kind, content))


def much_metadata(picture: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Good pictures with more metadata than any camera writes."""
    good = encode(picture, "PNG")
    yield "png-10000-chunks", after_header(good, chunk(b"prVt", b"") * 10_000)
    jpeg = encode(picture, "JPEG")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 5000) + struct.pack("<HHII", 270, 2, 60_000, 0) * 5000
    yield "jpeg-exif-of-5000-tags", jpeg[:2] + segment(0xE1, exif) + jpeg[2:]
    yield (
        "jpeg-200-profiles",
        jpeg[:2]
        + b"".join(
            segment(0xE2, b"ICC_PROFILE\0" + bytes([index % 255 + 1, 200]) + bytes(60_000)) for index in range(200)
        )
        + jpeg[2:],
    )


def after_header(good: bytes, chunks: bytes) -> bytes:
    """A PNG with further chunks behind its header."""
    return good[:33] + chunks + good[33:]
