import random
import struct
import warnings
from typing import Any, Literal

import numpy as np
import pytest
from classifier.decode import FORMATS, decode, decode_scaled
from classifier.problems import EmptyBody, ImageBroken, ImageTooLarge, NotAnImage, Problem
from PIL import Image

from scripts.building.golden import photograph
from stress.hostile.bombs import too_large
from stress.hostile.corpus import strangers
from stress.hostile.files import KINDS, flipped, of_kind
from tests.conftest import encode

LIMIT = 1_000_000
SIZE = (96, 64)

# What Pillow remarks about damaged files is for the log; here it would turn into exceptions that production never sees.
remarks_are_no_errors = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

every_file = pytest.mark.parametrize("name", KINDS)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    with Image.open(photograph("coffee.png")) as image:
        return image.convert("RGB").resize(SIZE, Image.Resampling.BOX)


@pytest.fixture
def data(picture: Image.Image, name: str) -> bytes:
    """A good file."""
    return of_kind(picture, name)


def test_there_is_a_file_of_every_accepted_format() -> None:
    assert {image_format for image_format, _, _ in KINDS.values()} == set(FORMATS)


def test_no_bytes_are_an_empty_body() -> None:
    with pytest.raises(EmptyBody):
        decode(b"", LIMIT)


@every_file
def test_the_limit_is_the_number_of_pixels(data: bytes) -> None:
    pixels = SIZE[0] * SIZE[1]
    assert decode(data, pixels).size == SIZE
    with pytest.raises(ImageTooLarge, match=f"96 x 64.* {pixels - 1}"):
        decode(data, pixels - 1)


@pytest.mark.parametrize("name", ["jpeg", "png", "gif", "bmp", "tiff"])
def test_the_header_alone_says_that_a_picture_is_too_large(data: bytes) -> None:
    cut = data[: len(data) // 2]
    with pytest.raises(ImageTooLarge):
        decode(cut, 100)
    with pytest.raises(ImageBroken):
        decode(cut, LIMIT)


BOMBS = dict(too_large())


@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("remark", ["ignore", "error"])  # a worker only prints what is an error here
def test_a_small_file_that_promises_a_huge_picture_is_too_large(
    body: bytes, remark: Literal["ignore", "error"]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(remark, Image.DecompressionBombWarning)
        with pytest.raises(ImageTooLarge):
            decode(body, 64_000_000)


STRANGERS = {body.name: body.content for body in strangers()}


@pytest.mark.parametrize("body", STRANGERS.values(), ids=STRANGERS)
def test_what_is_of_no_accepted_format_is_not_an_image(body: bytes) -> None:
    with pytest.raises(NotAnImage):
        decode(body, LIMIT)


@remarks_are_no_errors
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@every_file
def test_a_truncated_picture_is_broken(data: bytes, share: float) -> None:
    with pytest.raises(ImageBroken):
        decode(data[: int(len(data) * share)], LIMIT)


@remarks_are_no_errors
@pytest.mark.parametrize("length", [16, 24, 40])
@every_file
def test_the_first_bytes_of_a_picture_are_a_broken_picture(data: bytes, length: int) -> None:
    with pytest.raises(ImageBroken):
        decode(data[:length], LIMIT)


def test_the_magic_bytes_of_jpeg_alone_are_a_broken_picture() -> None:
    with pytest.raises(ImageBroken, match="JPEG"):
        decode(b"\xff\xd8\xff", LIMIT)


@remarks_are_no_errors
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@every_file
def test_flipped_bits_make_a_picture_or_a_problem_and_nothing_else(data: bytes, name: str) -> None:
    chance = random.Random(name)  # noqa: S311 - the same flips every time
    outcomes = {outcome(flipped(data, chance)) for _ in range(150)}
    assert outcomes <= {"RGB", "image_broken", "image_too_large", "not_an_image", "image_not_supported"}
    assert len(outcomes) > 1


def outcome(data: bytes, short_side: int = LIMIT) -> str:
    try:
        return decode_scaled(data, LIMIT, short_side)[0].mode
    except Problem as problem:
        return problem.code


def test_the_detail_of_a_broken_picture_says_nothing_of_our_code(picture: Image.Image) -> None:
    data = encode(picture, "PNG")
    with pytest.raises(ImageBroken) as caught:
        decode(data[:-200], LIMIT)
    assert caught.value.detail == "the PNG data is truncated or corrupt"


@remarks_are_no_errors
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0nonsense",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(range(200)),
    ],
    ids=["none", "nonsense", "beyond-the-end", "too-many-tags"],
)
def test_broken_exif_does_not_break_a_good_picture(picture: Image.Image, image_format: str, exif: bytes) -> None:
    options = {"lossless": True} if image_format == "WEBP" else {}
    with_exif = decode(encode(picture, image_format, exif=exif, **options), LIMIT)
    assert with_exif.tobytes() == decode(encode(picture, image_format, **options), LIMIT).tobytes()


def test_exif_with_one_wrong_tag_still_turns_the_picture_upright(picture: Image.Image) -> None:
    # orientation 6, and a resolution (tag 282) that is text where EXIF wants a fraction
    tags = struct.pack("<HHIHH", 274, 3, 1, 6, 0), struct.pack("<HHI4s", 282, 2, 4, b"72\0\0")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(tags) + struct.pack("<I", 0)
    result = decode(encode(picture, "PNG", exif=exif), LIMIT)
    assert np.array_equal(np.asarray(result), np.rot90(np.asarray(picture), -1))


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """600 x 400 RGB."""
    with Image.open(photograph("coffee.png")) as image:
        return image.convert("RGB")


JPEGS = {name: KINDS[name] for name in ("jpeg", "progressive", "cmyk")} | {"grey": ("JPEG", "L", {})}
every_jpeg = pytest.mark.parametrize(("image_format", "mode", "options"), JPEGS.values(), ids=JPEGS)


@every_jpeg
def test_the_limit_is_the_number_of_pixels_before_a_jpeg_is_decoded_smaller(
    photo: Image.Image, image_format: str, mode: str, options: dict[str, Any]
) -> None:
    data = encode(photo.convert(mode), image_format, **options)
    assert decode_scaled(data, 600 * 400, 50)[0].size == (75, 50)
    with pytest.raises(ImageTooLarge, match=r"600 x 400.* 239999"):
        decode_scaled(data, 600 * 400 - 1, 50)


@remarks_are_no_errors
@pytest.mark.parametrize("short_side", [50, 200])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@every_jpeg
def test_a_truncated_jpeg_is_broken_when_it_is_decoded_smaller_too(
    photo: Image.Image, image_format: str, mode: str, options: dict[str, Any], share: float, short_side: int
) -> None:
    data = encode(photo.convert(mode), image_format, **options)
    with pytest.raises(ImageBroken, match="JPEG"):
        decode_scaled(data[: int(len(data) * share)], LIMIT, short_side)


@remarks_are_no_errors
@every_jpeg
def test_flipped_bits_of_a_jpeg_that_is_decoded_smaller_make_a_picture_or_a_problem(
    photo: Image.Image, image_format: str, mode: str, options: dict[str, Any]
) -> None:
    data = encode(photo.resize((96, 64)).convert(mode), image_format, **options)
    chance = random.Random(mode)  # noqa: S311 - the same flips every time
    outcomes = {outcome(flipped(data, chance), 16) for _ in range(150)}
    assert outcomes <= {"RGB", "image_broken", "image_too_large", "not_an_image", "image_not_supported"}
    assert len(outcomes) > 1
