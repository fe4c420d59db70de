"""Good files of unusual kinds: deep ones, which must be decoded to what they show, and ones that are not supported."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stress.hostile.files import PNG_SIGNATURE, chunk, encode, png, segment

_BYTE, _SHORT, _LONG, _FLOAT = 1, 3, 4, 11  # types of a TIFF's tags
_LETTERS: Final = {_BYTE: "B", _SHORT: "H", _LONG: "I", _FLOAT: "f"}
_DEFLATE: Final = 8
Tags = dict[int, tuple[int, Sequence[float]]]  # number of a tag: its type and values


def tiff(
    samples: NDArray[Any] | bytes,
    size: tuple[int, int] | None = None,
    *,
    bits: int | None = None,
    photometric: int = 1,
    order: Literal["<", ">"] = "<",
    deflated: bool = False,
    tags: Tags | None = None,
) -> bytes:
    """A TIFF with one strip.

    Args:
        samples: [H,W] or [H,W,channels]; or packed bytes of one channel.
        size: width and height, with packed bytes.
        bits: of a sample; by default those of the array's type.
        photometric: as TIFF numbers the meanings of samples.
        order: `<` or `>`, of the bytes.
        deflated: whether the strip is compressed.
        tags: further ones, or others instead of these.
    """
    if isinstance(samples, bytes):
        width, height = size or (0, 0)
        content, channels, depth, kind = samples, 1, bits or 8, "u"
    else:
        height, width = samples.shape[:2]
        channels = samples.shape[2] if samples.ndim > 2 else 1
        depth, kind = bits or samples.dtype.itemsize * 8, samples.dtype.kind
        content = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    content = zlib.compress(content) if deflated else content
    found: Tags = {
        256: (_LONG, [width]),
        257: (_LONG, [height]),
        258: (_SHORT, [depth] * channels),
        259: (_SHORT, [_DEFLATE if deflated else 1]),
        262: (_SHORT, [photometric]),
        273: (_LONG, [8]),
        277: (_SHORT, [channels]),
        278: (_LONG, [height]),
        279: (_LONG, [len(content)]),
        339: (_SHORT, [{"u": 1, "i": 2, "f": 3}[kind]] * channels),
    }
    return _file(content + bytes(len(content) % 2), found | (tags or {}), order)


def _file(content: bytes, tags: Tags, order: str) -> bytes:
    """The header, the content, the directory, and behind it the values that do not fit into it."""
    directory = 8 + len(content)
    at, entries, behind = directory + 2 + 12 * len(tags) + 4, b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        value = struct.pack(f"{order}{len(values)}{_LETTERS[kind]}", *values)
        if len(value) > 4:
            behind, value = behind + value, struct.pack(f"{order}I", at + len(behind))
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + value.ljust(4, b"\0")
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", directory)
    return header + content + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + behind


def bmp(bits: int, compression: int, pixels: bytes, masks: Sequence[int] = (), header: int = 40) -> bytes:
    """A BMP of one row of two pixels.

    Args:
        bits: of a pixel.
        compression: as BMP numbers what the pixels are; 3 are bit fields.
        pixels: the row, padded to four bytes.
        masks: of the bit fields; within the header, if it is larger than 40 bytes.
        header: its size in bytes.
    """
    fields = struct.pack(f"<{len(masks)}I", *masks).ljust(max(header - 40, 4 * len(masks)), b"\0")
    own = struct.pack("<IiiHHIIiiII", header, 2, 1, 1, bits, compression, len(pixels), 0, 0, 0, 0) + fields
    return b"BM" + struct.pack("<IHHI", 14 + len(own) + len(pixels), 0, 0, 14 + len(own)) + own + pixels


def heif(major: bytes, *brands: bytes) -> bytes:
    """The first box of a HEIF file, which says what it is, and an empty one."""
    content = b"ftyp" + major + bytes(4) + b"".join(brands)
    return struct.pack(">I", len(content) + 4) + content + b"\0\0\0\x08free"


def deep(side: int = 32) -> Iterator[tuple[str, bytes, NDArray[np.uint8]]]:
    """Pictures of many bits: name, file, and the grey levels [H,W] or colours [H,W,3] that they show.

    They are ramps. Each file is written from its levels, with as many more bits as it has, so the levels are exact.
    """
    rng = np.random.default_rng(0)
    levels = rng.permutation(np.linspace(0, 255, side * side).astype(np.uint8)).reshape(side, side)
    colours = np.stack([levels, levels.T, 255 - levels], axis=-1)
    wide = levels.astype(np.uint16)
    twelve = wide << 4 | 7
    pairs = twelve.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=-1)
    twelve_bits = packed.astype(np.uint8).tobytes()
    yield "tiff-12-bit", tiff(twelve_bits, (side, side), bits=12), levels
    for bits in (10, 12, 14):
        yield f"tiff-{bits}-bit-in-16", tiff(wide << (bits - 8)), levels
        yield f"tiff-rgb-{bits}-bit-in-16", tiff(colours.astype(np.uint16) << (bits - 8), photometric=2), colours
    yield "tiff-8-bit-in-16", tiff(wide), levels
    stated: Tags = {281: (_SHORT, [4095])}
    dark = (levels >> 3).astype(np.uint8)
    yield "tiff-dark-12-bit-in-16", tiff(wide >> 3 << 4, tags=stated), dark
    yield "tiff-rgb-16-bit", tiff(colours.astype(np.uint16) * 257, photometric=2, order=">"), colours
    yield "tiff-16-bit", tiff(wide * 257), levels
    yield "tiff-16-bit-white-is-zero", tiff(65_535 - wide * 257, photometric=0), levels
    yield "tiff-8-bit-white-is-zero", tiff(255 - levels, photometric=0), levels
    yield "tiff-unsigned-32-bit", tiff(levels.astype(np.uint32) * 16_843_009), levels
    signed = (levels.astype(np.int64) * 16_843_009 - 2**31).astype(np.int32)
    yield "tiff-signed-32-bit-deflated", tiff(signed, order=">", deflated=True), levels
    floats = levels.astype(np.float32) / 255
    yield "tiff-float-white-is-zero", tiff(1 - floats, photometric=0), levels
    yield "tiff-float-deflated", tiff(floats, order=">", deflated=True), levels
    hot, shown = floats.copy(), levels.copy()
    hot[3, 5], shown[3, 5] = 1e6, 255
    yield "tiff-float-hot-pixel", tiff(hot), shown
    limits: Tags = {340: (_FLOAT, [-1.0]), 341: (_FLOAT, [1.0])}
    yield "tiff-float-of-stated-range", tiff(floats, tags=limits), np.round(127.5 + levels / 2).astype(np.uint8)
    palette = [*range(255, -1, -1)] * 3
    yield "tiff-palette-of-8-bits", tiff(levels, photometric=3, tags={320: (_SHORT, palette)}), 255 - levels
    alpha = np.stack([levels // 2, np.full_like(levels, 128)], axis=-1)
    yield "tiff-associated-alpha", tiff(alpha, tags={338: (_SHORT, [1])}), levels // 2 + 127
    yield (
        "png-16-bit",
        encode(Image.fromarray(wide << 4), "PNG"),
        (levels >> 4).astype(np.uint8),
    )  # a PNG always uses all of its bits


def transparent() -> Iterator[tuple[str, bytes, list[list[int]]]]:
    """PNGs of one row with a transparent colour, in depths other than eight: name, file, colours."""
    white = [255, 255, 255]
    two = png(4, 1, b"\0\x1b", depth=2, extra=((b"tRNS", b"\0\1"),))
    yield "png-2-bit", two, [[0] * 3, white, [170] * 3, white]
    four = png(4, 1, b"\0\x05\xaf", depth=4, extra=((b"tRNS", b"\0\5"),))
    yield "png-4-bit", four, [[0] * 3, white, [170] * 3, white]
    colours = struct.pack(">6H", 0x0900, 0x1000, 0x2000, 0x0901, 0x1000, 0x2000)
    six = png(2, 1, b"\0" + colours, depth=16, colour_type=2, extra=((b"tRNS", colours[:6]),))
    yield "png-rgb-16-bit", six, [white, [9, 16, 32]]


def unsupported() -> Iterator[tuple[str, bytes, str]]:
    """Good files, or their beginnings, of kinds that are not supported: name, file, a word that says why."""
    yield from _unsupported_tiffs()
    yield from _unsupported_jpegs()
    fields = (0xF00, 0xF0, 0xF)
    yield "bmp-444", bmp(16, 3, b"\0\x0f\x0f\0", fields), "bit fields"
    yield "bmp-1555", bmp(16, 3, b"\0\xfc\x1f\0", (0x7C00, 0x3E0, 0x1F, 0x8000), 108), "transparency"
    yield "bmp-10-bit", bmp(32, 3, bytes(8), (1023 << 20, 1023 << 10, 1023)), "bit fields"
    yield "bmp-2-bit", bmp(2, 0, bytes(20)), "2 bits a pixel"
    yield "bmp-jpeg", bmp(0, 4, encode(Image.new("L", (2, 1)), "JPEG")), "holds a JPEG"
    yield "bmp-runs-with-gaps", bmp(8, 1, bytes(1024) + b"\1\1\0\1"), "leave pixels out"
    yield "heic", heif(b"heic", b"mif1", b"heic"), "HEVC"
    yield "heic-mif1", heif(b"mif1", b"mif1", b"heic"), "HEVC"
    yield "heif-j2ki", heif(b"mif1", b"j2ki"), "JPEG 2000"
    header = struct.pack(">IIBBBBB", 1, 1, 8, 6, 0, 0, 0)
    packer = zlib.compressobj(wbits=-15)
    pixels = packer.compress(bytes(5)) + packer.flush()
    chunks = ((b"CgBI", b"P\0 \2"), (b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    yield "png-cgbi", PNG_SIGNATURE + b"".join(chunk(kind, content) for kind, content in chunks), "CgBI"


def _unsupported_tiffs() -> Iterator[tuple[str, bytes, str]]:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    rgb = np.stack([grey] * 3, axis=-1)
    yield "tiff-float-rgb", tiff(rgb.astype(np.float32), photometric=2), "float RGB"
    yield "tiff-float-64", tiff(grey.astype(np.float64)), "64-bit float"
    yield "tiff-float-16", tiff(grey.astype(np.float16)), "16-bit float"
    yield "tiff-signed-8-bit", tiff(grey.astype(np.int8)), "8-bit signed"
    yield "tiff-white-is-zero-big-endian", tiff(grey.astype(np.uint16), photometric=0, order=">"), "white-is-zero"
    planes: Tags = {284: (_SHORT, [2])}
    yield "tiff-planes-of-16-bits", tiff(rgb.astype(np.uint16), photometric=2, tags=planes), "separate planes"
    yield "tiff-grey-and-alpha-planes", tiff(rgb[..., :2], tags=planes | {338: (_SHORT, [2])}), "separate planes"
    yield "tiff-ycbcr-subsampled", tiff(rgb, photometric=6, tags={530: (_SHORT, [2, 2])}), "subsampling"
    yield "tiff-preview", tiff(grey, tags={254: (_LONG, [1])}), "preview"
    yield "tiff-dng", tiff(grey, tags={50706: (_BYTE, [1, 4, 0, 0])}), "camera raw"
    yield "tiff-canon-raw", tiff(np.frombuffer(b"CR\2\0\0\0\0\0", np.uint8)[None]), "CR2"
    yield "tiff-camera-raw", tiff(grey.astype(np.uint16), photometric=32803), "camera raw"
    yield "tiff-other-inks", tiff(np.stack([grey] * 4, axis=-1), photometric=5, tags={332: (_SHORT, [2])}), "inks"
    for number, name in ((50001, "WebP"), (34887, "LERC"), (50002, "JPEG XL"), (12345, "12345")):
        yield f"tiff-compression-{number}", tiff(rgb, photometric=2, tags={259: (_SHORT, [number])}), name
    yield "tiff-big-endian-big", b"MM\0+\0\x08\0\0" + struct.pack(">Q", 16) + bytes(16), "BigTIFF"


def _unsupported_jpegs() -> Iterator[tuple[str, bytes, str]]:
    good = encode(Image.new("RGB", (16, 16), "teal"), "JPEG")
    at = good.index(b"\xff\xc0")
    yield "jpeg-12-bit", good[: at + 4] + b"\x0c" + good[at + 5 :], "12 bits"
    yield "jpeg-hierarchical", good[: at + 1] + b"\xc5" + good[at + 2 :], "hierarchical"
    yield "jpeg-ls", good[: at + 1] + b"\xf7" + good[at + 2 :], "JPEG-LS"
    yield "jpeg-height-at-its-end", good[: at + 5] + b"\0\0" + good[at + 7 :], "height"
    five = segment(0xC0, b"\x08\0\x10\0\x10\5" + bytes([1, 0x11, 0] * 5))
    yield "jpeg-5-components", good[:at] + five + good[at + 2 + 17 :], "5 components"
