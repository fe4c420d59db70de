import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from classifier import pipeline
from classifier.decode import decode
from classifier.errors import UnusableError
from classifier.identity import IDENTITY_FILE, LABELS_FILE, RECIPE_FILE
from classifier.pipeline import Classifier, load_pixels, threads_per_worker
from classifier.preprocess import resize_and_crop
from classifier.problems import EmptyBody, ImageBroken, ImageTooLarge, Internal, NotAnImage, Problem
from classifier.rank import Prediction
from PIL import Image
from torch import Tensor

from tests.conftest import encode


def squares(number: int) -> list[bytes]:
    """Pictures of one colour each, all different."""
    return [encode(Image.new("RGB", (40, 36), (index * 25, 255 - index * 25, 128)), "PNG") for index in range(number)]


def predictions(results: list[list[Prediction] | Problem]) -> list[list[Prediction]]:
    """The results, none of which may be a problem."""
    good = [result for result in results if not isinstance(result, Problem)]
    assert len(good) == len(results)
    return good


def answering(classifier: Classifier, forward: Callable[[Tensor], Tensor]) -> Classifier:
    """The classifier with another model."""
    return msgspec.structs.replace(classifier, forward=forward)


def test_a_picture_is_classified_as_its_pixels_say(tiny: Classifier, cat: bytes) -> None:
    (result,) = predictions(tiny.classify([cat], [10]))
    pixels = load_pixels(cat, tiny.recipe.input)
    assert isinstance(pixels, np.ndarray)
    expected = torch.softmax(tiny.forward(torch.from_numpy(pixels.copy())[None])[0], dim=0)
    assert [item.probability for item in result] == pytest.approx(sorted(expected.tolist(), reverse=True), abs=1e-6)
    assert result[0].class_id == tiny.labels[int(expected.argmax())].class_id
    assert sum(item.probability for item in result) == pytest.approx(1)


def test_more_pictures_than_a_batch_are_split_and_keep_their_order(tiny: Classifier) -> None:
    images, sizes = squares(10), []

    def forward(batch: Tensor) -> Tensor:
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
    def forward(_: Tensor) -> Tensor:
        raise AssertionError("asked")

    results = answering(tiny, forward).classify(images, [1] * len(images))
    assert [isinstance(result, Problem) for result in results] == [True] * len(images)


@pytest.mark.parametrize(
    "forward",
    [
        pytest.param(lambda batch: torch.full((len(batch), 10), torch.nan), id="nan"),
        pytest.param(lambda batch: torch.full((len(batch), 10), torch.inf), id="infinite"),
        pytest.param(lambda batch: torch.zeros(len(batch), 10).index_fill(1, torch.tensor(9), torch.nan), id="one-nan"),
        pytest.param(lambda batch: torch.zeros(len(batch), 9), id="one-class-less"),
        pytest.param(lambda batch: torch.zeros(len(batch), 11), id="one-class-more"),
        pytest.param(lambda batch: torch.zeros(len(batch) + 1, 10), id="one-row-more"),
        pytest.param(lambda batch: torch.zeros(len(batch), 10, 1), id="one-dimension-more"),
        pytest.param(lambda batch: torch.zeros(10), id="no-batch"),
    ],
)
def test_logits_that_cannot_be_true_are_our_fault(
    tiny: Classifier, cat: bytes, coffee: bytes, forward: Callable[[Tensor], Tensor]
) -> None:
    classifier = answering(tiny, forward)
    assert [type(result) for result in classifier.classify([cat, coffee], [1, 1])] == [Internal, Internal]
    with pytest.raises(ValueError, match="logits"):
        classifier.warm_up()


def test_logits_that_are_no_numbers_are_the_trouble_of_their_own_picture(
    tiny: Classifier, cat: bytes, coffee: bytes
) -> None:
    def forward(batch: Tensor) -> Tensor:
        return torch.zeros(len(batch), 10).index_fill(0, torch.tensor(0), torch.nan)

    bad, good = answering(tiny, forward).classify([cat, coffee], [1, 1])
    assert isinstance(bad, Internal)
    assert isinstance(good, list)


def test_warm_up_runs_one_picture_and_a_full_batch(tiny: Classifier) -> None:
    shapes = []

    def forward(batch: Tensor) -> Tensor:
        assert batch.dtype == torch.uint8
        shapes.append(tuple(batch.shape))
        return torch.zeros(len(batch), 10)

    answering(tiny, forward).warm_up()
    assert sorted(shapes) == [(1, 32, 32, 3), (4, 32, 32, 3)]


def test_probabilities_are_float32_whatever_the_model_computes_in(tiny: Classifier) -> None:
    half = answering(tiny, lambda batch: torch.zeros(len(batch), 10, dtype=torch.bfloat16))
    result = half.probabilities(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.full((2, 10), 0.1))


def test_pixels_are_decoded_resized_and_cropped_as_the_recipe_says(tiny: Classifier, cat: bytes) -> None:
    with Image.open(io.BytesIO(cat)) as image:
        expected = resize_and_crop(image, 36, 32, "bilinear")
    assert np.array_equal(np.asarray(load_pixels(cat, tiny.recipe.input)), expected)


def test_running_out_of_memory_over_one_picture_is_that_pictures_trouble(
    tiny: Classifier, cat: bytes, coffee: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode_unless_cat(data: bytes, max_pixels: int) -> Image.Image:
        if data == cat:
            raise MemoryError("sixty four megapixels")
        return decode(data, max_pixels)

    monkeypatch.setattr(pipeline, "decode", decode_unless_cat)
    bad, good = tiny.classify([cat, coffee], [1, 1])
    assert isinstance(bad, Internal)
    assert "megapixels" not in bad.detail
    assert "megapixels" in str(bad.__cause__)
    assert isinstance(good, list)


@pytest.mark.parametrize(
    ("threads", "workers", "cores", "expected"),
    [("all", 1, 8, 8), ("all", 2, 8, 4), ("all", 3, 8, 2), ("all", 8, 2, 1), (3, 2, 8, 3), (16, 1, 2, 16)],
)
def test_the_workers_share_the_cores_unless_the_recipe_says_otherwise(
    tiny: Classifier, monkeypatch: pytest.MonkeyPatch, threads: int, workers: int, cores: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
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
