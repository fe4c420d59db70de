import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from classifier.cpu import computes
from classifier.errors import UnusableError
from classifier.pipeline import Classifier
from classifier.recipe import PRECISIONS, Variant, read_recipe
from classifier.runtimes import Forward, Source, load_runtime
from numpy.typing import NDArray

from tests.conftest import TINY_RECIPE

Archive = Callable[..., Path]

# How far a logit of tiny may be from eager float32. Measured: 2e-7, 3e-4, 5e-3, 0.2.
FARTHEST = {"float32": 1e-5, "float16": 3e-3, "bfloat16": 0.05, "int8": 0.5}
# … and how far one of them is at least, where another precision is really computed in.
NEAREST = {"float32": 0, "float16": 1e-5, "bfloat16": 1e-4, "int8": 1e-3}

ALL = read_recipe(TINY_RECIPE).archives
HERE = [variant for variant in ALL if computes(variant.precision)]  # the others are not built


def name_of(variant: Variant) -> str:
    return f"{variant.runtime}-{variant.precision}"


every_variant = pytest.mark.parametrize("variant", HERE, ids=name_of)
every_runtime = pytest.mark.parametrize(
    "variant", [variant for variant in HERE if variant.precision == "float32"], ids=name_of
)


def test_tiny_has_an_archive_of_every_runtime_in_every_precision() -> None:
    assert {(variant.runtime, variant.precision) for variant in ALL} == {
        (runtime, precision) for runtime, precisions in PRECISIONS.items() for precision in precisions
    }


@pytest.fixture
def folder(tiny_archive: Archive, variant: Variant) -> Path:
    """An unpacked archive of the variant. Do not change it: copy it first."""
    return tiny_archive(variant.runtime, "no-archive", variant.precision)


@pytest.fixture(scope="session")
def loaded() -> dict[str, Classifier]:
    return {}


@pytest.fixture
def classifier(folder: Path, loaded: dict[str, Classifier]) -> Classifier:
    """The variant, loaded once for all tests."""
    return loaded.setdefault(folder.name, Classifier.load(folder))


@pytest.fixture
def forward(classifier: Classifier) -> Forward:
    return classifier.forward


def pictures(number: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)


def source_in(directory: Path, variant: Variant, threads: int = 1) -> Source:
    """What the runtime loads of an unpacked archive."""
    serialized_file = json.loads((directory / "identity.json").read_bytes())["serialized_file"]
    recipe = read_recipe(TINY_RECIPE)
    return Source(directory=directory, serialized_file=serialized_file, recipe=recipe, variant=variant, threads=threads)


@every_variant
def test_an_archive_says_what_computes_it_and_how(classifier: Classifier, variant: Variant) -> None:
    model = classifier.identity.model
    assert (model.runtime, model.precision, model.version) == (variant.runtime, variant.precision, variant.version)


@pytest.mark.parametrize("number", range(1, 10))
@every_variant
def test_any_number_of_pictures_has_the_logits_of_the_reference(
    forward: Forward, variant: Variant, tiny: Classifier, number: int
) -> None:
    assert number <= 4 or number > tiny.recipe.serving.batch_size  # some are more than a server's batch
    pixels = pictures(number)
    logits = forward(pixels)
    assert isinstance(logits, np.ndarray)
    assert (logits.shape, logits.dtype) == ((number, 10), np.dtype(np.float32))
    np.testing.assert_allclose(logits, tiny.forward(pixels), atol=FARTHEST[variant.precision], rtol=0)


@every_variant
def test_a_lower_precision_is_really_computed_in(forward: Forward, variant: Variant, tiny: Classifier) -> None:
    pixels = pictures(8)
    assert np.abs(forward(pixels) - tiny.forward(pixels)).max() >= NEAREST[variant.precision]


@every_variant
def test_a_picture_has_the_same_logits_whatever_is_beside_it(forward: Forward, variant: Variant) -> None:
    pixels = pictures(5)
    together = forward(pixels)
    alone = np.concatenate([forward(pixels[index : index + 1]) for index in range(5)])
    np.testing.assert_allclose(together, alone, atol=FARTHEST[variant.precision] / 4, rtol=0)
    np.testing.assert_allclose(forward(pixels[::-1].copy()), together[::-1], atol=FARTHEST[variant.precision] / 4)


@pytest.mark.parametrize("number", [3, 1])
@every_variant
def test_logits_are_not_overwritten_by_those_of_the_next_batch(forward: Forward, number: int) -> None:
    first = forward(pictures(3))
    kept = first.copy()
    second = forward(pictures(number, seed=1))
    assert np.array_equal(first, kept)
    assert not np.allclose(first[:number], second, atol=1e-3)
    first[:] = 0  # it belongs to the caller
    assert second.all()


@every_variant
def test_the_pixels_stay_as_they_were(forward: Forward) -> None:
    pixels = pictures(3)
    forward(pixels)
    assert np.array_equal(pixels, pictures(3))


@pytest.mark.parametrize("calls", [100, pytest.param(500, marks=pytest.mark.thorough)])
@every_variant
def test_eight_threads_each_get_the_logits_of_their_own_pictures(folder: Path, variant: Variant, calls: int) -> None:
    batches = [pictures(1 + seed % 5, seed) for seed in range(8)]
    forward = load_runtime(source_in(folder, variant, threads=2))
    expected = [forward(pixels) for pixels in batches]
    together = threading.Barrier(8)
    forward = load_runtime(source_in(folder, variant, threads=2))  # whose first calls are those of the threads

    def farthest(own: int) -> float:
        together.wait()
        return max(float(np.abs(forward(batches[own]) - expected[own]).max()) for _ in range(calls))

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(farthest, range(8))) <= FARTHEST[variant.precision] / 4


LAYOUTS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "every-other-picture": lambda pixels: pixels[::2],
    "on-its-side": lambda pixels: pixels.swapaxes(1, 2),
    "channels-first": lambda pixels: np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
    "a-crop": lambda pixels: np.pad(pixels, ((0, 0), (3, 1), (2, 2), (0, 1)))[:, 3:-1, 2:-2, :-1],
    "mirrored": lambda pixels: pixels[:, :, ::-1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@every_variant
def test_pixels_may_lie_in_memory_in_any_order(forward: Forward, variant: Variant, layout: str) -> None:
    pixels = LAYOUTS[layout](pictures(4))
    assert not pixels.flags.c_contiguous
    expected = forward(np.ascontiguousarray(pixels))
    np.testing.assert_allclose(forward(pixels), expected, atol=FARTHEST[variant.precision] / 4, rtol=0)


@every_variant
def test_a_classifier_answers_with_the_classes_of_the_reference(
    classifier: Classifier, tiny: Classifier, cat: bytes, coffee: bytes
) -> None:
    results = classifier.classify([cat, b"a cat", coffee], [10, 10, 10])
    expected = tiny.classify([cat, b"a cat", coffee], [10, 10, 10])
    assert [type(item) for item in results] == [type(item) for item in expected]
    for result, other in zip(results, expected, strict=True):
        if isinstance(result, list) and isinstance(other, list):
            found = {item.class_id: item.probability for item in result}
            assert found == pytest.approx({item.class_id: item.probability for item in other}, abs=0.05)
    classifier.warm_up()


def damaged(content: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "nonsense": b"nonsense",
        "a zip's beginning": b"PK\x03\x04",
        "half": content[: len(content) // 2],
        "nearly all": content[:-100],
        "no text": np.random.default_rng(0).bytes(5000),
    }


@pytest.mark.parametrize("damage", damaged(b""))
@every_runtime
def test_a_file_that_is_none_of_the_runtimes_is_refused_by_name(
    folder: Path, variant: Variant, tmp_path: Path, damage: str
) -> None:
    source = source_in(shutil.copytree(folder, tmp_path / "copy"), variant)
    assert load_runtime(source)(pictures(1)).shape == (1, 10)  # or it would prove nothing
    source.path.write_bytes(damaged(source.path.read_bytes())[damage])
    with pytest.raises(UnusableError, match=source.serialized_file):
        load_runtime(source)


@every_runtime
def test_a_file_of_another_runtime_is_refused_by_name(
    folder: Path, variant: Variant, tmp_path: Path, tiny_archive: Archive
) -> None:
    source = source_in(shutil.copytree(folder, tmp_path / "copy"), variant)
    other = "tiny.pt" if variant.runtime == "eager" else "tiny.pth"
    shutil.copy(tiny_archive("torchscript" if other == "tiny.pt" else "eager", "no-archive") / other, source.path)
    with pytest.raises(UnusableError, match=source.serialized_file):
        load_runtime(source)


@every_runtime
def test_a_file_that_is_missing_is_an_error_of_the_system(folder: Path, variant: Variant, tmp_path: Path) -> None:
    source = source_in(shutil.copytree(folder, tmp_path / "copy"), variant)
    source.path.unlink()
    with pytest.raises(FileNotFoundError, match=source.serialized_file):
        load_runtime(source)


@pytest.mark.parametrize("left", [None, 0, 0.5], ids=["missing", "empty", "half"])
@pytest.mark.parametrize(
    "variant", [item for item in HERE if item.runtime in ("onnxruntime", "openvino", "ncnn")], ids=name_of
)
def test_a_graph_whose_weights_beside_it_are_not_all_there_is_refused(
    folder: Path, variant: Variant, tmp_path: Path, left: float | None
) -> None:
    source = source_in(shutil.copytree(folder, tmp_path / "copy"), variant)
    (weights,) = (path for path in source.directory.iterdir() if path.suffix in (".bin", ".data"))
    if left is None:
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[: int(weights.stat().st_size * left)])
    with pytest.raises((UnusableError, OSError), match=r"tiny\.(onnx|xml|param|bin)"):
        load_runtime(source)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "variant", [item for item in HERE if item.runtime in ("eager", "torchscript", "aotinductor")], ids=name_of
)
def test_torchs_runtimes_compute_with_the_threads_they_are_given(
    folder: Path, variant: Variant, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    load_runtime(source_in(folder, variant, threads))
    assert told == [threads]


@pytest.mark.parametrize(
    ("threads", "largest", "sessions"),
    [(1, 1 << 20, [1]), (3, 1 << 20, [3, 1]), (3, 0, [3])],
    ids=["one", "all-and-one", "too-large-for-two"],
)
@pytest.mark.parametrize("variant", [item for item in HERE if item.runtime == "onnxruntime"], ids=name_of)
def test_onnx_runtime_computes_with_the_threads_it_is_given(
    folder: Path, variant: Variant, threads: int, largest: int, sessions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classifier.runtimes.parts._TWICE", largest)
    told: list[tuple[int, int]] = []
    session = onnxruntime.InferenceSession

    def start(path: Path, options: Any, **others: Any) -> Any:
        told.append((options.intra_op_num_threads, options.inter_op_num_threads))
        return session(path, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", start)
    load_runtime(source_in(folder, variant, threads))
    assert told == [(number, 1) for number in sessions]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("variant", [item for item in HERE if item.runtime == "openvino"], ids=name_of)
def test_openvino_computes_with_the_threads_and_the_precision_it_is_given(
    folder: Path, variant: Variant, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    class Core(openvino.Core):  # type: ignore[misc] # has no types
        def compile_model(self, *given: Any) -> Any:
            compiled = super().compile_model(*given)
            # of threads it takes no more than there are cores
            told.extend([given[-1]["INFERENCE_NUM_THREADS"], compiled.get_property("INFERENCE_PRECISION_HINT")])
            return compiled

    monkeypatch.setattr(openvino, "Core", Core)
    load_runtime(source_in(folder, variant, threads))
    assert told[0] == threads
    assert (
        told[1]
        == {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16, "int8": openvino.Type.f32}[variant.precision]
    )


@every_runtime
def test_a_classifier_hands_the_recipes_threads_and_its_device_to_the_runtime(
    folder: Path, variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Source] = []

    def load(source: Source) -> Forward:
        told.append(source)
        return lambda pixels: np.zeros((len(pixels), 10), np.float32)

    monkeypatch.setattr("classifier.pipeline.load_runtime", load)
    copy = shutil.copytree(folder, tmp_path / "copy")
    recipe = (copy / "recipe.yaml").read_text()
    (copy / "recipe.yaml").write_text(recipe.replace("threads: 1", "threads: 3"))
    Classifier.load(copy, "cuda:1")
    (source,) = told
    assert (source.variant.runtime, source.threads, source.device) == (variant.runtime, 3, "cuda:1")
    assert (source.variant, source.directory) == (variant, copy)
    assert msgspec.structs.replace(source.recipe.serving, threads=1) == read_recipe(TINY_RECIPE).serving
