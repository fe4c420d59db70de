import colorsys
import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from classifier.decode import decode, decode_scaled, to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageOps

from scripts.building.golden import photograph
from stress.hostile.files import in_mode, lying, png
from tests.conftest import encode

LIMIT = 1_000_000

# Grey levels between our conversion and the arithmetic below: both round.
ROUNDING = 1
# … and where a colour space is stored in eight bits a channel, which cannot hold every RGB colour.
LAB_ROUNDING = 3

SMALL = (48, 32)
Pixels = NDArray[np.float64]


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """A small RGB photograph that looks different from every side."""
    with Image.open(photograph("chelsea.png")) as image:
        return image.convert("RGB").resize(SMALL, Image.Resampling.BOX)


def spread(pixels: Pixels) -> Pixels:
    low, high = float(pixels.min()), float(pixels.max())
    return (pixels - low) / (high - low) * 255


def in_palette(image: Image.Image, pixels: Pixels) -> Pixels:
    palette = np.array(image.getpalette("RGB"), dtype=np.float64).reshape(-1, 3)
    colours: Pixels = palette[pixels.astype(int)]
    return colours


def from_luma(pixels: Pixels) -> Pixels:
    """JFIF's YCbCr."""
    luma, blue, red = pixels[..., 0], pixels[..., 1] - 128, pixels[..., 2] - 128
    rgb = luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue
    return np.clip(np.stack(rgb, axis=-1), 0, 255)


# For each mode, what becomes [H,W] grey or [H,W,3] colours.
COLOURS: dict[str, Callable[[Image.Image, Pixels], Pixels]] = {
    "1": lambda _, pixels: pixels * 255,
    "L": lambda _, pixels: pixels,
    "LA": lambda _, pixels: pixels[..., 0],
    "I;16": lambda _, pixels: pixels // 256,
    "I;16B": lambda _, pixels: pixels // 256,
    "I": lambda _, pixels: spread(pixels),
    "F": lambda _, pixels: spread(pixels),
    "P": in_palette,
    "PA": lambda image, pixels: in_palette(image, pixels[..., 0]),
    "RGB": lambda _, pixels: pixels,
    "RGBA": lambda _, pixels: pixels[..., :3],
    "CMYK": lambda _, pixels: (255 - pixels[..., :3]) * (255 - pixels[..., 3:]) / 255,
    "YCbCr": lambda _, pixels: from_luma(pixels),
}


def opacity(image: Image.Image, pixels: Pixels) -> Pixels:
    """[H,W,1], 0…1."""
    transparent = image.info.get("transparency")
    if image.mode in ("LA", "PA", "RGBA"):
        return pixels[..., -1:] / 255
    if isinstance(transparent, bytes):  # the opacity of each index, as far as it goes
        table = np.array([*transparent, *[255] * (256 - len(transparent))], dtype=np.float64)
        shares: Pixels = table[pixels.astype(int), None]
        return shares / 255
    if transparent is not None:
        shown: Pixels = np.not_equal(pixels, transparent).astype(np.float64)
        return shown[..., None]
    return np.ones((*pixels.shape[:2], 1))


def reference(data: bytes) -> Pixels:
    """What a file should look like: Pillow opens it, the rest is arithmetic. [H,W,3], 0…255."""
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
    pixels = np.asarray(image).astype(np.float64)
    colours, opaque = COLOURS[image.mode](image, pixels), opacity(image, pixels)
    if colours.ndim == 2:
        colours = colours[..., None]
    return colours * opaque + np.full((1, 1, 3), 255.0) * (1 - opaque)


# (format, mode of the picture, mode in which Pillow opens the file, options of saving it)
FILES: list[tuple[str, str, str, dict[str, Any]]] = [
    ("JPEG", "L", "L", {}),
    ("JPEG", "RGB", "RGB", {}),
    ("JPEG", "RGB", "RGB", {"progressive": True, "subsampling": 0}),
    ("JPEG", "CMYK", "CMYK", {}),
    ("JPEG", "YCbCr", "RGB", {}),
    ("PNG", "1", "1", {}),
    ("PNG", "L", "L", {}),
    ("PNG", "L", "L", {"transparency": 120}),
    ("PNG", "LA", "LA", {}),
    ("PNG", "P", "P", {}),
    ("PNG", "P", "P", {"transparency": 7}),
    ("PNG", "P", "P", {"transparency": bytes(range(0, 250, 2))}),
    ("PNG", "RGB", "RGB", {}),
    ("PNG", "RGBA", "RGBA", {}),
    ("PNG", "I;16", "I;16", {}),
    ("WEBP", "L", "RGB", {"lossless": True}),
    ("WEBP", "RGB", "RGB", {}),
    ("WEBP", "RGBA", "RGBA", {}),
    ("WEBP", "RGBA", "RGBA", {"lossless": True, "exact": True}),
    ("GIF", "1", "L", {}),
    ("GIF", "L", "P", {}),
    ("GIF", "P", "P", {}),
    ("GIF", "P", "P", {"transparency": 7}),
    ("GIF", "RGBA", "P", {}),
    ("BMP", "1", "1", {}),
    ("BMP", "L", "L", {}),
    ("BMP", "P", "P", {}),
    ("BMP", "RGB", "RGB", {}),
    ("TIFF", "1", "1", {}),
    ("TIFF", "1", "1", {"compression": "group4"}),
    ("TIFF", "L", "L", {}),
    ("TIFF", "LA", "LA", {}),
    ("TIFF", "P", "P", {}),
    ("TIFF", "PA", "PA", {}),
    ("TIFF", "RGB", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "RGBA", "RGBA", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", "CMYK", "CMYK", {}),
    ("TIFF", "YCbCr", "YCbCr", {}),
    ("TIFF", "I;16", "I;16", {}),
    ("TIFF", "I;16B", "I;16B", {}),
    ("TIFF", "I", "I", {}),
    ("TIFF", "F", "F", {}),
    ("AVIF", "L", "L", {}),
    ("AVIF", "RGB", "RGB", {}),
    ("AVIF", "RGBA", "RGBA", {}),
]


@pytest.mark.parametrize(("image_format", "mode", "opened_mode", "options"), FILES)
def test_every_mode_of_every_format_becomes_the_rgb_that_it_shows(
    picture: Image.Image, image_format: str, mode: str, opened_mode: str, options: dict[str, Any]
) -> None:
    data = encode(in_mode(picture, mode), image_format, **options)
    with Image.open(io.BytesIO(data)) as opened:
        assert (opened.format, opened.mode) == (image_format, opened_mode)
    result = decode(data, LIMIT)
    assert (result.mode, result.size) == ("RGB", SMALL)
    assert np.abs(np.asarray(result) - reference(data)).max() <= ROUNDING


def test_lab_becomes_the_rgb_that_it_was(picture: Image.Image) -> None:
    data = encode(in_mode(picture, "LAB"), "TIFF")
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.mode == "LAB"
    assert np.abs(np.asarray(decode(data, LIMIT)).astype(int) - np.asarray(picture)).max() <= LAB_ROUNDING


def test_hsv_becomes_rgb(picture: Image.Image) -> None:  # no format holds it, but a caller may have it
    image = picture.convert("HSV")
    colours = [colorsys.hsv_to_rgb(*colour) for colour in (np.asarray(image) / 255).reshape(-1, 3)]
    expected = (np.array(colours) * 255).reshape(*np.asarray(image).shape)
    assert np.abs(np.asarray(to_rgb(image)) - expected).max() <= ROUNDING


def test_a_palette_with_an_alpha_channel_becomes_rgb_over_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 0, 40, 50, 60, 255], "RGBA")
    image.putdata([0, 1])
    assert np.asarray(to_rgb(image)).tolist() == [[[255, 255, 255], [40, 50, 60]]]


ORIENTED: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {"quality": 95, "subsampling": 0}),
    ("PNG", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("AVIF", {"quality": 95}),
]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("image_format", "options"), ORIENTED, ids=[name for name, _ in ORIENTED])
def test_a_picture_is_turned_upright_by_its_exif(
    picture: Image.Image, image_format: str, options: dict[str, Any], orientation: int
) -> None:
    result = decode(lying(picture, orientation, image_format, **options), LIMIT)
    assert result.size == SMALL
    # the lossy formats are 3 grey levels off on average; the picture turned any other way is 30
    assert np.abs(np.asarray(result).astype(int) - np.asarray(picture)).mean() < 8


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_turns_nothing(picture: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    assert decode(encode(picture, "PNG", exif=exif), LIMIT).tobytes() == picture.tobytes()


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_of_several_frames_the_first_is_the_picture(image_format: str) -> None:
    red, blue = Image.new("RGB", SMALL, "red"), Image.new("RGB", SMALL, "blue")
    data = encode(red, image_format, save_all=True, append_images=[blue])
    with Image.open(io.BytesIO(data)) as opened:
        assert getattr(opened, "n_frames", 1) == 2
    assert np.abs(np.asarray(decode(data, LIMIT)).astype(int) - (255, 0, 0)).max() <= 3


def test_sixteen_bits_keep_their_range() -> None:
    image = Image.fromarray(np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16))
    for image_format in ("PNG", "TIFF"):
        greys = np.asarray(decode(encode(image, image_format), LIMIT))
        assert greys.tolist() == [[[value] * 3 for value in (0, 0, 1, 128, 255)]]


@pytest.mark.parametrize(
    ("values", "greys"),
    [
        (np.array([[-5, 0, 5]], np.int32), [0, 128, 255]),
        (np.array([[-(2**31), 2**31 - 1]], np.int32), [0, 255]),
        (np.array([[0.25, 0.5, 0.75]], np.float32), [0, 128, 255]),
        (np.array([[-3e38, 3e38]], np.float32), [0, 255]),
        (np.array([[100, 150, 200, np.nan]], np.float32), [0, 128, 255, 0]),
        (np.array([[100, 150, 200, np.inf, -np.inf]], np.float32), [0, 128, 255, 255, 0]),
        (np.array([[7, 7]], np.float32), [0, 0]),
        (np.array([[np.nan, np.nan]], np.float32), [0, 0]),
    ],
)
def test_wide_integers_and_floats_reach_from_their_minimum_to_their_maximum(
    values: NDArray[Any], greys: list[int]
) -> None:
    result = np.asarray(decode(encode(Image.fromarray(values), "TIFF"), LIMIT))
    assert result.tolist() == [[[grey] * 3 for grey in greys]]


@pytest.mark.parametrize(
    ("depth", "colour_type", "row", "transparent", "expected"),
    [
        (1, 0, b"\x40", struct.pack(">H", 0), [[255] * 3, [255] * 3]),
        (1, 0, b"\x40", struct.pack(">H", 1), [[0] * 3, [255] * 3]),
        (8, 0, bytes([9, 80]), struct.pack(">H", 9), [[255] * 3, [80] * 3]),
        (8, 2, bytes([1, 2, 3, 4, 5, 6]), struct.pack(">3H", 1, 2, 3), [[255] * 3, [4, 5, 6]]),
        (16, 0, struct.pack(">2H", 0x0900, 0x5000), struct.pack(">H", 0x0900), [[255] * 3, [0x50] * 3]),
    ],
)
def test_the_transparent_colour_of_a_png_is_white(
    depth: int, colour_type: int, row: bytes, transparent: bytes, expected: list[list[int]]
) -> None:
    data = png(2, 1, b"\0" + row, depth=depth, colour_type=colour_type, extra=((b"tRNS", transparent),))
    assert np.asarray(decode(data, LIMIT)).tolist() == [expected]


@pytest.mark.parametrize(
    ("image_format", "mode", "options"),
    [(image_format, mode, options) for image_format, mode, _, options in FILES if image_format != "JPEG"]
    + [("TIFF", "RGB", {"compression": "jpeg"})],
)
def test_other_formats_are_decoded_as_large_as_they_are(
    picture: Image.Image, image_format: str, mode: str, options: dict[str, Any]
) -> None:
    data = encode(in_mode(picture, mode), image_format, **options)
    result, extent = decode_scaled(data, LIMIT, 4)
    assert result.size == extent == SMALL
    assert result.tobytes() == decode(data, LIMIT).tobytes()
