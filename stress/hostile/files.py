"""Makes files of pictures, whole and damaged, for the hostile corpus and the decoder's tests."""

import io
import random
import re
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

# Every mode of Pillow that a picture can be put into. No format keeps all of them.
MODES: Final = (
    "1", "L", "LA", "La", "I;16", "I;16B", "I", "F", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK",
    "YCbCr", "LAB", "HSV",
)  # fmt: skip
_TRANSPARENT: Final = ("LA", "PA", "RGBA")
_PREMULTIPLIED: Final = {"La": "LA", "RGBa": "RGBA"}

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    """Encode a picture in a file format."""
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def in_mode(picture: Image.Image, mode: str) -> Image.Image:
    """Convert an RGB picture to another mode; an alpha channel fades from left to right."""
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.applyTransform(picture, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
        if converted is None:
            raise RuntimeError("littleCMS returned no picture")
        del converted.info["icc_profile"]  # it contains the time of day
        return converted
    if mode.startswith("I;16"):
        grey = np.asarray(picture.convert("L"), dtype=np.uint16) * 257
        return Image.fromarray(grey.astype(">u2" if mode.endswith("B") else "<u2"))
    if mode in _PREMULTIPLIED:
        return in_mode(picture, _PREMULTIPLIED[mode]).convert(mode)
    converted = picture.convert("P").convert("PA") if mode == "PA" else picture.convert(mode)
    if mode in _TRANSPARENT:
        converted.putalpha(Image.linear_gradient("L").rotate(90).resize(picture.size))
    return converted


def every_mode_and_format(picture: Image.Image) -> Iterator[tuple[str, str, bytes]]:
    """Format, mode and file of every pair that Pillow can write."""
    Image.init()
    dates = {"creationDate": time.gmtime(0), "modDate": time.gmtime(0)}  # of a PDF, instead of the time of day
    for image_format in sorted(Image.SAVE):
        for mode in MODES:
            try:
                yield image_format, mode, encode(in_mode(picture, mode), image_format, **dates)
            except (OSError, ValueError):  # Pillow raises either if the format has no such mode, or no writer
                continue


def srgb_profile() -> bytes:
    """The colour profile of sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes(12) + profile[36:]  # without the time of day


def without_times(avif: bytes) -> bytes:
    """Remove the times of day from an AVIF sequence: 16 bytes in each of three boxes."""
    for box in (b"mvhd", b"tkhd", b"mdhd"):
        at = avif.index(box) + 8  # behind its name, version and flags
        avif = avif[:at] + bytes(16) + avif[at + 16 :]
    return avif


def stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """How a camera stores a picture whose EXIF has that orientation (EXIF 2.3, tag 274)."""
    sides_swapped = np.swapaxes(upright, 0, 1)
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: sides_swapped,
        6: sides_swapped[::-1],  # the first row is the right side, so the first column is the top
        7: sides_swapped[::-1, ::-1],
        8: sides_swapped[:, ::-1],
    }[orientation]


def lying(picture: Image.Image, orientation: int, image_format: str, **options: object) -> bytes:
    """Store a picture as a camera does that was held at an angle, with the EXIF tag that makes it upright."""
    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.ascontiguousarray(stored(np.asarray(picture), orientation))
    return encode(Image.fromarray(pixels), image_format, exif=exif, **options)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    width: int,
    height: int,
    rows: bytes = b"\0",
    *,
    depth: int = 1,
    colour_type: int = 0,
    extra: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    """A PNG, by default grey with one bit a pixel, whose header may declare more pixels than `rows` has.

    Args:
        width: width in the header, in pixels.
        height: height in the header, in pixels.
        rows: the rows, each with its filter byte, before compression.
        depth: bits a channel.
        colour_type: as PNG numbers them.
        extra: kind and content of the chunks between header and pixels.
    """
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(chunk(kind, content) for kind, content in chunks)


def segment(marker: int, content: bytes) -> bytes:
    """A segment of a JPEG: FF, its marker, its length, its content of at most 65,533 bytes."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def tenths(data: bytes) -> list[bytes]:
    """The file truncated after one to nine tenths of its length."""
    return [data[: len(data) * share // 10] for share in range(1, 10)]


def flipped(data: bytes, chance: random.Random) -> bytes:
    """The file with one to eight of its bits flipped."""
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        end = chance.choice((64, len(data)))  # half of the flips are in the header, where they have more effect
        damaged[chance.randrange(end)] ^= 1 << chance.randrange(8)
    return bytes(damaged)


# A good file of each kind: format, mode, options.
KINDS: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "jpeg": ("JPEG", "RGB", {}),
    "progressive": ("JPEG", "RGB", {"progressive": True}),
    "cmyk": ("JPEG", "CMYK", {}),
    "png": ("PNG", "RGB", {}),
    "png-palette": ("PNG", "P", {"transparency": 3}),
    "png-grey": ("PNG", "I;16", {}),
    "webp": ("WEBP", "RGBA", {}),
    "webp-lossless": ("WEBP", "RGBA", {"lossless": True}),
    "gif": ("GIF", "RGB", {}),
    "bmp": ("BMP", "RGB", {}),
    "tiff": ("TIFF", "RGB", {}),
    "tiff-lzw": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "tiff-jpeg": ("TIFF", "RGB", {"compression": "jpeg"}),
    "tiff-float": ("TIFF", "F", {}),
    "avif": ("AVIF", "RGBA", {}),
}


def of_kind(picture: Image.Image, name: str) -> bytes:
    """A good file of that kind."""
    image_format, mode, options = KINDS[name]
    return encode(in_mode(picture, mode), image_format, **options)


# How the accepted formats begin, by their specifications; AVIF's first box holds its brands.
_BEGINNINGS: Final = (
    b"\xff\xd8\xff", PNG_SIGNATURE, b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"II\0*", b"MM*\0",
    b"II+\0", b"MM\0+",
)  # fmt: skip


def begins_like_a_picture(data: bytes) -> bool:
    """Whether the first bytes are those of an accepted format."""
    webp = data[:4] == b"RIFF" and data[8:15] == b"WEBPVP8"
    avif = data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis", b"mif1", b"msf1")
    return webp or avif or data.startswith(_BEGINNINGS)


_PHOTOMETRIC: Final = 262  # a tag of TIFF 6.0
# What Pillow says of a whole header that states a kind of JPEG, BMP or TIFF that it does not know.
_UNKNOWN_KIND: Final = re.compile(
    r"cannot handle \d+-(bit layers|layer images)|Unsupported BMP (bitfields|compression \((4|5|11|12|13)\))"
    r"|unknown pixel mode|Invalid value for samples per pixel"
)


def states_another_kind(data: bytes) -> bool:
    """Whether a header states a kind of an accepted format that Pillow does not know, as plain Pillow finds it."""
    for opened in (JpegImageFile, BmpImageFile, TiffImageFile):
        try:
            opened(io.BytesIO(data))
        except KeyError:  # the number of a TIFF's compression
            return True
        except Exception as error:  # decoders raise nearly any exception on damaged bytes
            if _UNKNOWN_KIND.search(str(error)):
                return opened is not TiffImageFile or _states_colours(data)
    return False


def _states_colours(tiff: bytes) -> bool:
    """Whether a TIFF's photometric interpretation is a number, or not there: another type is damage, not a kind."""
    tags = ImageFileDirectory_v2(tiff[:8])
    stream = io.BytesIO(tiff)
    stream.seek(tags.next)
    tags.load(stream)
    return isinstance(tags.get(_PHOTOMETRIC, 0), int)


def by_pillow_alone(data: bytes, formats: tuple[str, ...], max_pixels: int) -> tuple[int, str]:
    """The status and code for arbitrary bytes, as plain Pillow finds them.

    This shares no code with the decoder: Pillow opens the file and decodes all of it.
    """
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if image.width * image.height > max_pixels:
                return 413, "image_too_large"
            image.load()
    except Image.DecompressionBombError:
        return 413, "image_too_large"
    except Exception:  # decoders raise nearly any exception on damaged bytes
        if not begins_like_a_picture(data):
            return 415, "not_an_image"
        return (415, "image_not_supported") if states_another_kind(data) else (422, "image_broken")
    return 200, ""
