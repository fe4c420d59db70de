"""Small files that would take much memory or time, and must be refused before they do."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from PIL import ExifTags, Image

from stress.hostile.files import chunk, encode, in_mode, png, segment

_MANY: Final = 50_000  # pixels a side: 2,500 million in all
_ZEROS: Final = 100_000_000  # bytes that a text or a profile unpacks to


def too_large() -> Iterator[tuple[str, bytes]]:
    """Headers with more pixels than any recipe allows, by name, and hardly any pixel data behind them."""
    yield "png-50000x50000", png(_MANY, _MANY)
    yield "png-9500x9500", png(9_500, 9_500)  # Pillow only warns about this size
    yield "png-one-row", png(2**31 - 1, 1)
    yield "png-one-column", png(1, 2**31 - 1)
    yield "png-one-more-than-64-million", png(64_000_001, 1)
    yield "jpeg-65535x65535", sized_jpeg(65_535, 65_535)
    yield "gif-65000x65000", gif(65_000, 65_000)
    yield "bmp-50000x50000", bmp(_MANY, _MANY)
    yield "tiff-50000x50000", ifd(grey(_MANY, _MANY)[:-1])
    yield "webp-16383x16383", webp(16_383, 16_383)


def largest() -> Iterator[tuple[str, bytes]]:
    """Pictures of as many pixels as the recipes allow, in modes that take the most memory, in small files."""
    size, lying = (8_000, 8_000), Image.Exif()
    lying[ExifTags.Base.Orientation] = 6
    yield "png-transparent", encode(Image.new("RGBA", size, (20, 120, 220, 128)), "PNG", exif=lying)
    yield "webp-transparent", encode(Image.new("RGBA", size, (20, 120, 220, 128)), "WEBP", lossless=True, method=0)
    yield "tiff-floats", encode(Image.new("F", size, 0.5), "TIFF", compression="tiff_adobe_deflate", exif=lying)
    yield "jpeg-progressive", encode(Image.new("CMYK", size, "teal"), "JPEG", progressive=True)


def sized_jpeg(width: int, height: int) -> bytes:
    """A JPEG whose header declares that size, but which has eight by eight pixels."""
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


def webp(width: int, height: int) -> bytes:
    """The header of a lossless WebP."""
    frame = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)
    content = b"WEBPVP8L" + struct.pack("<I", len(frame)) + frame + bytes(len(frame) % 2)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def much_metadata(picture: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Good pictures with more metadata than any camera writes, all of which must be ignored."""
    jpeg, good = encode(picture, "JPEG"), encode(picture, "PNG")
    yield "png-10000-chunks", after_header(good, chunk(b"prVt", b"") * 10_000)
    yield "png-exif-of-60000-tags", after_header(good, chunk(b"eXIf", _large_tags(60_000)))
    yield "png-exif-of-200000-fractions", after_header(good, chunk(b"eXIf", _fractions(274, 200_000)))
    yield "jpeg-exif-of-5000-tags", jpeg[:2] + segment(0xE1, b"Exif\0\0" + _large_tags(5_000)) + jpeg[2:]
    profiles = (b"ICC_PROFILE\0" + bytes([index % 255 + 1, 200]) + bytes(60_000) for index in range(20))
    yield "jpeg-20-profiles", jpeg[:2] + b"".join(segment(0xE2, profile) for profile in profiles) + jpeg[2:]
    directory = ifd([(0xB000, 7, 4, 0x30303130), (0xB001, 4, 1, 4_000), (0xB002, 7, 64_000, None)], bytes(64_000))
    yield "jpeg-of-4000-pictures", jpeg[:2] + segment(0xE2, b"MPF\0" + directory) + jpeg[2:]


def broken_metadata(picture: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Good pictures with metadata that unpack to much data, or have more pieces than a decoder can read quickly."""
    good, jpeg, few = encode(picture, "PNG"), encode(picture, "JPEG"), encode(picture.quantize(256), "GIF")
    packed = zlib.compress(bytes(_ZEROS), 9)
    yield "png-ztxt", after_header(good, chunk(b"zTXt", b"Comment\0\0" + packed))
    yield "png-itxt", after_header(good, chunk(b"iTXt", b"Comment\0\1\0\0\0" + packed))
    yield "png-iccp", after_header(good, chunk(b"iCCP", b"profile\0\0" + packed))
    # as strings four times as large, because one character is not ASCII
    wide = zlib.compress(b"a" * 1_000_000 + "\N{GRINNING FACE}".encode(), 9)
    texts = b"".join(chunk(b"iTXt", b"%d\0\1\0\0\0" % index + wide) for index in range(60))
    yield "png-60-texts", after_header(good, texts)
    yield "png-60-texts-behind", good[:-12] + texts + good[-12:]
    yield "png-200000-chunks", after_header(good, chunk(b"prVt", b"") * 200_000)
    yield "jpeg-200000-segments", jpeg[:2] + segment(0xE3, b"") * 200_000 + jpeg[2:]
    yield "jpeg-2-million-bytes-of-padding", jpeg[:2] + b"\xff" * 2_000_000 + jpeg[2:]
    yield "tiff-60000-tags", _large_tags(60_000, grey(64, 64))
    palette = 13 + 3 * 256  # the header and the colours
    yield "gif-200000-comments", few[:palette] + b"\x21\xfe\1a\0" * 200_000 + few[palette:]


def many_strips() -> Iterator[tuple[str, bytes]]:
    """TIFFs with a separate piece for every few pixels, by name."""
    numbers = b"\1\0\0\0" * 1_000_000
    strips = [(273, 4, 1_000_000, None), (278, 4, 1, 1), (279, 4, 1, 1)]
    tiles = [(322, 4, 1, 1), (323, 4, 1, 1), (324, 4, 1_000_000, None), (325, 4, 1, 1)]
    yield "tiff-million-strips", ifd([*grey(8_000, 8_000)[:6], *strips], numbers)
    yield "tiff-million-strips-of-one", ifd([*grey(1, 1_000_000)[:6], *strips], numbers)
    yield "tiff-million-tiles", ifd([*grey(8_000, 8_000)[:6], *tiles], numbers)
    yield "tiff-million-channels", ifd([*grey(64, 64)[:2], (258, 3, 2_000_000, None), *grey(64, 64)[3:]], numbers)
    yield "tiff-fractions", _fractions(282, 500_000, grey(64, 64))


def scanned(side: int, scans: int) -> bytes:
    """A square, grey, progressive JPEG with that many scans of its pixels, each of few bytes."""
    jpeg = encode(Image.new("L", (side, side)), "JPEG", progressive=True)
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + last * (scans - jpeg.count(b"\xff\xda")) + jpeg[-2:]


Tag = tuple[int, int, int, int | None]  # number, type, count, value; None if the value lies behind the directory


def ifd(tags: list[Tag], behind: bytes = b"") -> bytes:
    """A TIFF, or the content of EXIF, with one directory."""
    end = 8 + 2 + 12 * len(tags) + 4
    entries = (
        struct.pack("<HHII", tag, kind, count, end if value is None else value) for tag, kind, count, value in tags
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries) + bytes(4) + behind


def grey(width: int, height: int) -> list[Tag]:
    """The tags of a grey TIFF with one strip, which begins with the file."""
    values = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, 273: 8, 278: height, 279: width * height}
    return [(tag, 4, 1, value) for tag, value in values.items()]


def _large_tags(number: int, tags: list[Tag] | None = None) -> bytes:
    """Tags of 300 bytes each, all of which share the same bytes: together larger than the file."""
    return ifd([*(tags or []), *((1000 + index, 1, 300, 8) for index in range(number))], bytes(300))


def _fractions(tag: int, number: int, tags: list[Tag] | None = None) -> bytes:
    return ifd([*(tags or []), (tag, 5, number, None)], b"\1\0\0\0\1\0\0\0" * number)


def after_header(good: bytes, chunks: bytes) -> bytes:
    """A PNG with further chunks behind its header."""
    return good[:33] + chunks + good[33:]


def large(side: int) -> Iterator[tuple[str, bytes]]:
    """Good pictures as large as that, in small files: as much memory and time as a picture can take."""
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield f"png-{mode}", encode(in_mode(Image.new("RGB", (side, side), "teal"), mode), "PNG", compress_level=1)
    for mode in ("L", "RGB", "CMYK"):
        yield f"jpeg-{mode}", encode(in_mode(Image.new("RGB", (side, side), "teal"), mode), "JPEG")
    for mode in ("I", "F", "LAB", "YCbCr", "PA"):
        picture = in_mode(Image.new("RGB", (side, side), "teal"), mode)
        yield f"tiff-{mode}", encode(picture, "TIFF", compression="tiff_lzw")
    flat = Image.new("RGB", (side, side), "teal")
    yield "gif", encode(flat, "GIF")
    yield "bmp-1", encode(flat.convert("1"), "BMP")
    yield "webp", encode(flat, "WEBP", lossless=True)
    yield "avif", encode(flat, "AVIF", speed=10)
