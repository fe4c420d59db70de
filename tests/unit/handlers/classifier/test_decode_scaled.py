"""JPEGs, decoded no larger than is needed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from classifier import decode as module
from classifier import large_pictures
from classifier.decode import decode, decode_scaled
from PIL import Image

from scripts.building.golden import photograph
from tests.conftest import encode
from tests.unit.conftest import stored

LIMIT = 1_000_000


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """600 x 400 RGB."""
    with Image.open(photograph("coffee.png")) as image:
        return image.convert("RGB")


@pytest.mark.parametrize(
    ("size", "short_side", "decoded"),
    [
        ((600, 400), 401, (600, 400)),
        ((600, 400), 400, (600, 400)),
        ((600, 400), 201, (600, 400)),
        ((600, 400), 200, (300, 200)),
        ((400, 600), 200, (200, 300)),
        ((600, 400), 101, (300, 200)),
        ((600, 400), 100, (150, 100)),
        ((600, 400), 50, (75, 50)),
        ((600, 400), 1, (75, 50)),  # libjpeg knows halves, quarters and eighths
        ((600, 399), 200, (600, 399)),
        ((599, 401), 200, (300, 201)),
        ((600, 2), 1, (300, 1)),
        ((600, 1), 1, (600, 1)),
    ],
)
def test_a_jpeg_is_decoded_as_small_as_it_may_be(
    photo: Image.Image, size: tuple[int, int], short_side: int, decoded: tuple[int, int]
) -> None:
    result = decode_scaled(encode(photo.resize(size), "JPEG"), LIMIT, short_side)[0]
    assert (result.mode, result.size) == ("RGB", decoded)
    assert min(result.size) >= min(short_side, *size)


JPEGS: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    ("JPEG", "L", {}),
    ("JPEG", "CMYK", {}),
    ("MPO", "RGB", {}),
]
every_jpeg = pytest.mark.parametrize(
    ("image_format", "mode", "options"), JPEGS, ids=["rgb", "progressive", "grey", "cmyk", "mpo"]
)


@every_jpeg
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_jpeg_decoded_smaller_shows_the_same(
    photo: Image.Image, image_format: str, mode: str, options: dict[str, Any], scale: int
) -> None:
    data = encode(photo.convert(mode), image_format, quality=95, **options)
    result, extent = decode_scaled(data, LIMIT, 400 // scale)
    assert extent == (600 / scale, 400 / scale)
    assert (result.mode, result.size) == ("RGB", (600 // scale, 400 // scale))
    expected = np.asarray(decode(data, LIMIT).reduce(scale)).astype(int)
    # upside down it is 60 grey levels off on average
    assert np.abs(np.asarray(result) - expected).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
@every_jpeg
def test_a_jpeg_decoded_smaller_is_turned_upright_too(
    photo: Image.Image, image_format: str, mode: str, options: dict[str, Any], orientation: int
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored(np.asarray(photo), orientation))).convert(mode)
    result, extent = decode_scaled(encode(image, image_format, quality=95, exif=exif, **options), LIMIT, 100)
    assert result.size == extent == (150, 100)
    expected = np.asarray(photo.convert(mode).convert("RGB").reduce(4)).astype(int)
    assert np.abs(np.asarray(result) - expected).mean() < 4


@every_jpeg
def test_without_a_short_side_a_jpeg_is_decoded_as_large_as_it_is(
    photo: Image.Image, image_format: str, mode: str, options: dict[str, Any]
) -> None:
    assert decode(encode(photo.convert(mode), image_format, **options), LIMIT).size == (600, 400)


@pytest.mark.parametrize(
    ("image_format", "options", "large", "at_once"),
    [
        ("PNG", {}, 600 * 400 - 1, False),
        ("PNG", {}, 600 * 400, True),
        ("JPEG", {}, 300 * 200, True),  # what is held is the smaller picture …
        ("JPEG", {"progressive": True}, 300 * 200, False),  # … but not here
    ],
)
def test_large_pictures_are_decoded_one_after_the_other(
    photo: Image.Image,
    monkeypatch: pytest.MonkeyPatch,
    image_format: str,
    options: dict[str, Any],
    large: int,
    at_once: bool,
) -> None:
    together = threading.Barrier(2)
    met = []

    def meet(image: Image.Image) -> Image.Image:
        try:
            together.wait(5 if at_once else 0.2)
            met.append(True)
        except threading.BrokenBarrierError:
            together.reset()
            met.append(False)
        return image

    monkeypatch.setattr(large_pictures, "LARGE", large)
    monkeypatch.setattr(module, "to_rgb", meet)
    data = encode(photo, image_format, **options)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: decode_scaled(data, LIMIT, 200), range(2)))
    assert met == [at_once, at_once]
