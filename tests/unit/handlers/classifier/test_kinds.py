"""Good files of unusual kinds are decoded to what they show, or not supported; none is called broken."""

import io

import numpy as np
import pytest
from classifier.decode import decode, prepare
from classifier.problems import ImageNotSupported, NotAnImage
from numpy.typing import NDArray
from PIL import Image

from stress.hostile.kinds import deep, heif, transparent, unsupported

LIMIT = 1_000_000
ROUNDING = 1  # grey levels

DEEP = {name: (data, levels) for name, data, levels in deep()}
TRANSPARENT = {name: (data, colours) for name, data, colours in transparent()}
UNSUPPORTED = {name: (data, why) for name, data, why in unsupported()}


@pytest.mark.parametrize(("data", "levels"), DEEP.values(), ids=DEEP)
def test_a_deep_picture_becomes_the_levels_that_it_shows(data: bytes, levels: NDArray[np.uint8]) -> None:
    expected = levels if levels.ndim == 3 else np.stack([levels] * 3, axis=-1)
    assert np.abs(np.asarray(decode(data, LIMIT)).astype(int) - expected).max() <= ROUNDING


@pytest.mark.parametrize("name", [name for name in DEEP if "rgb" not in name])
def test_a_deep_picture_that_pillow_opened_has_the_same_levels(name: str) -> None:
    data, _ = DEEP[name]
    with Image.open(io.BytesIO(data)) as opened:
        assert prepare(opened, LIMIT).tobytes() == decode(data, LIMIT).tobytes()


@pytest.mark.parametrize(("data", "colours"), TRANSPARENT.values(), ids=TRANSPARENT)
def test_a_transparent_colour_of_any_depth_is_white(data: bytes, colours: list[list[int]]) -> None:
    assert np.asarray(decode(data, LIMIT)).tolist() == [colours]


@pytest.mark.parametrize(("data", "why"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_a_good_file_of_another_kind_is_not_supported_and_the_detail_says_what_it_is(data: bytes, why: str) -> None:
    with pytest.raises(ImageNotSupported, match=why):
        decode(data, LIMIT)


@pytest.mark.parametrize("name", ["tiff-signed-8-bit", "tiff-preview", "tiff-grey-and-alpha-planes"])
def test_a_tiff_that_pillow_opens_and_misreads_is_refused_from_python_too(name: str) -> None:
    with Image.open(io.BytesIO(UNSUPPORTED[name][0])) as opened, pytest.raises(ImageNotSupported):
        prepare(opened, LIMIT)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\n\x89@", "JPEG XL"),
        (b"%PDF-1.7\n", "PDF"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"P5\n1 1\n4095\n\0\0", "Netpbm"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera raw"),
    ],
)
def test_a_file_of_another_format_is_called_by_its_name(data: bytes, name: str) -> None:
    with pytest.raises(NotAnImage, match=name):
        decode(data, LIMIT)


def test_a_video_is_no_picture() -> None:
    with pytest.raises(NotAnImage):
        decode(heif(b"mp42", b"mp42", b"isom"), LIMIT)


@pytest.mark.parametrize("count", [16, 1_000, 100_000])
@pytest.mark.parametrize("hot", [1e30, -1e30])
def test_one_hot_pixel_changes_no_other(count: int, hot: float) -> None:
    values = np.linspace(0, 1, count, dtype=np.float32)[None]
    spoilt = values.copy()
    spoilt[0, count // 2] = hot
    plain, seen = (np.asarray(prepare(Image.fromarray(picture), LIMIT)).astype(int) for picture in (values, spoilt))
    assert np.abs(np.delete(plain - seen, count // 2, axis=1)).max() <= ROUNDING
    assert seen[0, count // 2, 0] == (255 if hot > 0 else 0)


def test_a_few_bright_pixels_on_black_stay_visible() -> None:
    values = np.zeros((100, 100), np.float32)
    values[50, 50] = 0.5
    seen = np.asarray(prepare(Image.fromarray(values), LIMIT))
    assert seen[50, 50].tolist() == [255] * 3
    assert seen[0, 0].tolist() == [0] * 3
