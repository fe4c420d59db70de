import io
import shutil
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from classifier import pipeline
from classifier.decode import Extent, See, decode_scaled
from classifier.errors import UnusableError
from classifier.forks import Threads
from classifier.identity import IDENTITY_FILE, LABELS_FILE, RECIPE_FILE
from classifier.input import Input
from classifier.pipeline import Classifier, load_pixels, threads_per_worker
from classifier.preprocess import resize_and_crop
from classifier.problems import EmptyBody, ImageBroken, ImageTooLarge, Internal, NotAnImage, Problem
from classifier.rank import Prediction
from classifier.runtimes import Forward
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import encode


def squares(number: int) -> list[bytes]:
    """Pictures of one colour each, all different."""
    return [encode(Image.new("RGB", (40, 36), (index * 25, 255 - index * 25, 128)), "PNG") for index in range(number)]


def zeros(*shape: int) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


def predictions(results: list[list[Prediction] | Problem]) -> list[list[Prediction]]:
    """The results, none of which may be a problem."""
    good = [result for result in results if not isinstance(result, Problem)]
    assert len(good) == len(results)
    return good


def answering(classifier: Classifier, forward: Forward) -> Classifier:
    """The classifier with another model."""
    return msgspec.structs.replace(classifier, forward=forward)


def test_a_picture_is_classified_as_its_pixels_say(tiny: Classifier, cat: bytes) -> None:
    (result,) = predictions(tiny.classify([cat], [10]))
    pixels = load_pixels(cat, tiny.recipe.input)
    assert isinstance(pixels, np.ndarray)
    expected = torch.softmax(torch.from_numpy(tiny.forward(pixels[None].copy())[0]), dim=0)
    assert [item.probability for item in result] == pytest.approx(sorted(expected.tolist(), reverse=True), abs=1e-6)
    assert result[0].class_id == tiny.labels[int(expected.argmax())].class_id
    assert sum(item.probability for item in result) == pytest.approx(1)


def test_more_pictures_than_a_batch_are_split_and_keep_their_order(tiny: Classifier) -> None:
    images, sizes = squares(10), []

    def forward(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        sizes.append(len(batch))
        return tiny.forward(batch)

    together = predictions(answering(tiny, forward).classify(images, [10] * 10))
    assert tiny.recipe.serving.batch_size == 4
    assert sizes == [4, 4, 2]
    alone = [predictions(tiny.classify([image], [10]))[0] for image in images]
    assert len({result[0].probability for result in alone}) == 10
    for result, expected in zip(together, alone, strict=True):
        assert [item.class_id for item in result] == [item.class_id for item in expected]
        assert result[0].probability == pytest.approx(expected[0].probability, abs=1e-6)


def test_good_pictures_are_classified_beside_bad_ones(tiny: Classifier, cat: bytes, coffee: bytes) -> None:
    large = encode(Image.new("1", (4000, 4000)), "PNG")
    images = [b"", cat, b"a cat", cat[:1000], coffee, large]
    results = tiny.classify(images, [3] * len(images))
    kinds = [type(results[index]) for index in (0, 2, 3, 5)]
    assert kinds == [EmptyBody, NotAnImage, ImageBroken, ImageTooLarge]
    good = predictions([results[1], results[4]])
    alone = predictions([*tiny.classify([cat], [3]), *tiny.classify([coffee], [3])])
    assert [[item.class_id for item in result] for result in good] == [
        [item.class_id for item in result] for result in alone
    ]
    assert good[0][0].probability != good[1][0].probability


def test_each_picture_has_its_own_top_k(tiny: Classifier, cat: bytes) -> None:
    results = predictions(tiny.classify([cat, cat, cat], [1, 10, 3]))
    assert [len(result) for result in results] == [1, 10, 3]
    assert results[1][:3] == results[2]


@pytest.mark.parametrize("images", [[], [b"a cat", b""]])
def test_without_a_good_picture_the_model_is_not_asked(tiny: Classifier, images: list[bytes]) -> None:
    def forward(_: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise AssertionError("asked")

    results = answering(tiny, forward).classify(images, [1] * len(images))
    assert [isinstance(result, Problem) for result in results] == [True] * len(images)


@pytest.mark.parametrize(
    "forward",
    [
        pytest.param(lambda batch: np.full((len(batch), 10), np.nan, np.float32), id="nan"),
        pytest.param(lambda batch: np.full((len(batch), 10), np.inf, np.float32), id="infinite"),
        pytest.param(lambda batch: np.array([[0.0] * 9 + [np.nan]] * len(batch), np.float32), id="one-nan"),
        pytest.param(lambda batch: zeros(len(batch), 9), id="one-class-less"),
        pytest.param(lambda batch: zeros(len(batch), 11), id="one-class-more"),
        pytest.param(lambda batch: zeros(len(batch) + 1, 10), id="one-row-more"),
        pytest.param(lambda batch: zeros(len(batch), 10, 1), id="one-dimension-more"),
        pytest.param(lambda _: zeros(10), id="no-batch"),
    ],
)
def test_logits_that_cannot_be_true_are_our_fault(
    tiny: Classifier, cat: bytes, coffee: bytes, forward: Forward
) -> None:
    classifier = answering(tiny, forward)
    assert [type(result) for result in classifier.classify([cat, coffee], [1, 1])] == [Internal, Internal]
    with pytest.raises(ValueError, match="logits"):
        classifier.warm_up()


def test_logits_that_are_no_numbers_are_the_trouble_of_their_own_picture(
    tiny: Classifier, cat: bytes, coffee: bytes
) -> None:
    def forward(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = zeros(len(batch), 10)
        logits[0] = np.nan
        return logits

    bad, good = answering(tiny, forward).classify([cat, coffee], [1, 1])
    assert isinstance(bad, Internal)
    assert isinstance(good, list)


def test_warm_up_runs_one_picture_and_a_full_batch(tiny: Classifier) -> None:
    shapes = []

    def forward(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert batch.dtype == np.uint8
        shapes.append(tuple(batch.shape))
        return zeros(len(batch), 10)

    answering(tiny, forward).warm_up()
    assert sorted(shapes) == [(1, 32, 32, 3), (4, 32, 32, 3)]


def test_probabilities_are_float32_whatever_the_model_computes_in(tiny: Classifier) -> None:
    half = answering(tiny, lambda batch: np.zeros((len(batch), 10), np.float16))
    result = half.probabilities(np.zeros((2, 32, 32, 3), np.uint8))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.full((2, 10), 0.1), atol=1e-5, rtol=1.3e-6)


def test_pixels_are_decoded_resized_and_cropped_as_the_recipe_says(tiny: Classifier, cat: bytes) -> None:
    with Image.open(io.BytesIO(cat)) as image:
        expected = resize_and_crop(image, Input(resize=36, crop=32))
    assert np.array_equal(np.asarray(load_pixels(cat, tiny.recipe.input)), expected)


def test_running_out_of_memory_over_one_picture_is_that_pictures_trouble(
    tiny: Classifier, cat: bytes, coffee: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode_unless_cat(data: bytes, max_pixels: int, short_side: int, see: See) -> tuple[Image.Image, Extent]:
        if data == cat:
            raise MemoryError("sixty four megapixels")
        return decode_scaled(data, max_pixels, short_side, see)

    monkeypatch.setattr(pipeline, "decode_scaled", decode_unless_cat)
    bad, good = tiny.classify([cat, coffee], [1, 1])
    assert isinstance(bad, Internal)
    assert "megapixels" not in bad.detail
    assert "megapixels" in str(bad.__cause__)
    assert isinstance(good, list)


@pytest.mark.parametrize(
    ("threads", "workers", "cores", "expected"),
    [
        *[("share", 1, 8, 8), ("share", 2, 8, 4), ("share", 3, 8, 2), ("share", 8, 2, 1)],
        *[("all", 1, 8, 8), ("all", 2, 8, 8), (3, 2, 8, 3), (16, 1, 2, 16)],
    ],
)
def test_a_worker_computes_with_the_threads_that_the_recipe_says(
    tiny: Classifier, monkeypatch: pytest.MonkeyPatch, threads: int | str, workers: int, cores: int, expected: int
) -> None:
    monkeypatch.setattr(pipeline, "usable_cores", lambda: cores)
    serving = msgspec.structs.replace(tiny.recipe.serving, threads=threads, workers=workers)
    assert threads_per_worker(serving) == expected


def test_loading_sets_the_threads_of_the_recipe(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    Classifier.load(tiny_folder)
    assert threads == [1]


def test_a_loaded_classifier_says_what_it_is(tiny: Classifier) -> None:
    assert msgspec.to_builtins(tiny.identity.model) == {
        "name": "tiny",
        "version": "1.0",
        "runtime": "eager",
        "precision": "float32",
        "weights": "tiny-trained",
    }
    assert len(tiny.labels) == 10


@pytest.mark.parametrize("name", [RECIPE_FILE, IDENTITY_FILE, LABELS_FILE, "tiny.pth"])
def test_a_file_that_is_missing_from_an_archive_is_named(tiny_folder: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(tiny_folder, tmp_path / "copy")
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        Classifier.load(copy)


@pytest.mark.parametrize("name", [RECIPE_FILE, IDENTITY_FILE, LABELS_FILE, "tiny.pth"])
def test_a_file_of_an_archive_that_cannot_be_used_is_named(tiny_folder: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(tiny_folder, tmp_path / "copy")
    (copy / name).write_text("nonsense")
    with pytest.raises(UnusableError, match=name):
        Classifier.load(copy)


@pytest.fixture
def decoding(tiny: Classifier) -> Classifier:
    """Tiny with two threads that decode."""
    return msgspec.structs.replace(tiny, decoders=Threads(2, "decode"))


def test_pictures_are_decoded_side_by_side_and_their_answers_keep_the_order(
    decoding: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, second_is_done = squares(6), threading.Event()
    alone = [predictions(decoding.classify([image], [10]))[0] for image in images]

    def load(image: bytes, spec: Input, see: See) -> NDArray[np.uint8] | Problem:
        if image == images[0]:
            assert second_is_done.wait(30)  # of one thread, or of none, it would never be
        found = load_pixels(image, spec, see)
        if image == images[1]:
            second_is_done.set()
        return found

    monkeypatch.setattr(pipeline, "load_pixels", load)
    together = predictions(decoding.classify(images, [10] * 6))
    for result, expected in zip(together, alone, strict=True):
        assert [item.class_id for item in result] == [item.class_id for item in expected]
        assert result[0].probability == pytest.approx(expected[0].probability, abs=1e-6)


@pytest.mark.parametrize("bad", [{0}, {3}, {5}, {1, 2}, {0, 4, 5}, {0, 1, 2, 3, 4}])
def test_problems_stay_at_their_place_among_pictures_that_are_decoded_side_by_side(
    decoding: Classifier, bad: set[int]
) -> None:
    images = squares(6)
    alone = [predictions(decoding.classify([image], [10]))[0] for image in images]
    results = decoding.classify([b"a cat" if index in bad else image for index, image in enumerate(images)], [10] * 6)
    assert {index for index, result in enumerate(results) if isinstance(result, NotAnImage)} == bad
    for index in set(range(6)) - bad:
        (result,) = predictions([results[index]])
        assert [item.class_id for item in result] == [item.class_id for item in alone[index]]
        assert result[0].probability == pytest.approx(alone[index][0].probability, abs=1e-6)


@pytest.mark.parametrize(("number", "with_threads"), [(1, False), (2, True), (5, True)])
def test_one_picture_alone_is_decoded_without_a_thread(
    decoding: Classifier, number: int, with_threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def load(image: bytes, spec: Input, see: See) -> NDArray[np.uint8] | Problem:
        names.append(threading.current_thread().name)
        return load_pixels(image, spec, see)

    monkeypatch.setattr(pipeline, "load_pixels", load)
    assert len(predictions(decoding.classify(squares(number), [1] * number))) == number
    assert [name.startswith("decode") for name in names] == [with_threads] * number
    assert with_threads or names == [threading.current_thread().name]


def test_no_more_pictures_are_decoded_at_once_than_a_worker_has_threads(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[int] = []

    class Pool(Threads):
        def __init__(self, number: int, name: str) -> None:
            pools.append(number)
            super().__init__(number, name)

    monkeypatch.setattr(pipeline, "Threads", Pool)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    copy = shutil.copytree(tiny_folder, tmp_path / "copy")
    recipe = (copy / RECIPE_FILE).read_text()
    (copy / RECIPE_FILE).write_text(recipe.replace("threads: 1", "threads: 3"))
    Classifier.load(copy)
    assert pools == [3]


@pytest.mark.parametrize("number", [1, 2, 4, 5, 9])
def test_logits_are_those_of_all_batches_in_one_array(tiny: Classifier, number: int) -> None:
    def forward(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return batch[:, 0, 0, :1].astype(np.float32)

    pixels = np.zeros((number, 32, 32, 3), np.uint8)
    pixels[:, 0, 0, 0] = range(number)
    logits = answering(tiny, forward).logits(pixels)
    assert logits.dtype == np.float32
    assert logits.flatten().tolist() == list(range(number))


def test_a_large_jpeg_is_decoded_smaller_but_to_twice_what_the_resize_needs(
    tiny: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []

    def resize(image: Image.Image, *rest: Any) -> NDArray[np.uint8]:
        sizes.append(image.size)
        return resize_and_crop(image, *rest)

    monkeypatch.setattr(pipeline, "resize_and_crop", resize)
    for side in (143, 144, 287, 288, 576, 2000):  # tiny resizes to 36
        load_pixels(encode(Image.new("RGB", (side, side)), "JPEG"), tiny.recipe.input)
    assert sizes == [(143, 143), (72, 72), (144, 144), (72, 72), (72, 72), (250, 250)]
