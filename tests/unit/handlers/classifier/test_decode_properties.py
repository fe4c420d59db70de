"""What holds for every picture and for any bytes; `HYPOTHESIS=search` looks longer."""

import io
import random
from typing import Any

import numpy as np
import pytest
from classifier.decode import decode, decode_scaled
from classifier.input import Input
from classifier.pipeline import load_pixels
from classifier.problems import Internal, Problem
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from stress.hostile.corpus import ACCEPTED
from stress.hostile.files import KINDS, PNG_SIGNATURE, encode, flipped, lying, of_kind

LIMIT = 1_000_000
SPEC = Input(resize=36, crop=32, max_pixels=LIMIT)
BEGINNINGS = (b"", b"\xff\xd8\xff", PNG_SIGNATURE, b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF\x20\0\0\0WEBPVP8L")

# What Pillow remarks about damaged files would turn into exceptions here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")

sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))


def noise(size: tuple[int, int], seed: int) -> Image.Image:
    """A picture that looks like no other."""
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@given(st.sampled_from(BEGINNINGS), st.binary(max_size=300))
@example(b"", b"")
def test_any_bytes_are_a_picture_or_the_problem_of_a_client(beginning: bytes, rest: bytes) -> None:
    outcome = load_pixels(beginning + rest, SPEC)
    assert not isinstance(outcome, Problem) or 400 <= outcome.status < 500


@pytest.mark.slow
@given(st.sampled_from(sorted(KINDS)), sizes, st.integers(0, 2**32 - 1))
def test_a_good_file_with_flipped_bits_is_a_picture_or_the_problem_of_a_client(
    kind: str, size: tuple[int, int], seed: int
) -> None:
    data = flipped(of_kind(noise(size, seed), kind), random.Random(seed))  # noqa: S311 - the same flips for a seed
    assert not isinstance(load_pixels(data, SPEC), Internal)


@pytest.mark.slow
@given(st.sampled_from(sorted(KINDS)), sizes, st.integers(0, 99))
def test_a_good_file_is_a_picture_of_its_size(kind: str, size: tuple[int, int], seed: int) -> None:
    data = of_kind(noise(size, seed), kind)
    image = decode(data, LIMIT)
    assert (image.mode, image.size) == ("RGB", size)
    pixels = load_pixels(data, SPEC)
    assert isinstance(pixels, np.ndarray)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.slow
@given(st.sampled_from(sorted(KINDS)), sizes, st.binary(min_size=1, max_size=50))
def test_bytes_behind_a_picture_change_nothing(kind: str, size: tuple[int, int], behind: bytes) -> None:
    data = of_kind(noise(size, 1), kind)
    assert decode(data + behind, LIMIT).tobytes() == decode(data, LIMIT).tobytes()


@pytest.mark.slow
@given(st.sampled_from(("PNG", "TIFF")), sizes, st.integers(1, 8), st.integers(0, 99))
def test_every_orientation_of_every_size_is_undone(
    image_format: str, size: tuple[int, int], orientation: int, seed: int
) -> None:
    picture = noise(size, seed)
    assert decode(lying(picture, orientation, image_format), LIMIT).tobytes() == picture.tobytes()


@pytest.mark.slow
@given(sizes, st.integers(1, 70))
def test_a_smaller_decode_is_no_smaller_than_asked(size: tuple[int, int], short_side: int) -> None:
    image, extent = decode_scaled(encode(noise(size, 2), "JPEG"), LIMIT, short_side)
    assert min(image.size) >= min(short_side, *size)
    assert all(side - 1 < exact <= side for side, exact in zip(image.size, extent, strict=True))


@pytest.mark.slow
@given(st.sampled_from(ACCEPTED), sizes)
def test_the_limit_of_pixels_is_exact(image_format: str, size: tuple[int, int]) -> None:
    data, pixels = encode(noise(size, 3), image_format), size[0] * size[1]
    assert decode(data, pixels).size == size
    if pixels > 1:
        outcome = load_pixels(data, Input(resize=36, crop=32, max_pixels=pixels - 1))
        assert isinstance(outcome, Problem)
        assert outcome.code == "image_too_large"


def deep(dtype: Any) -> st.SearchStrategy[NDArray[Any]]:
    values = st.floats(width=32) if dtype is np.float32 else st.integers(-(2**31), 2**31 - 1)
    return st.lists(values, min_size=1, max_size=20).map(lambda row: np.array([row], dtype=dtype))


@given(deep(np.float32) | deep(np.int32))
def test_deep_greys_keep_their_order(values: NDArray[Any]) -> None:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "TIFF")
    greys = np.asarray(decode(stream.getvalue(), LIMIT))[0, :, 0].astype(int)
    order = np.argsort(values[0], kind="stable")
    finite = order[np.isfinite(values[0][order])]
    assert (np.diff(greys[finite]) >= 0).all()
