from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from classifier.pipeline import Classifier
from classifier.recipe import read_recipe
from classifier.runtimes import Source, load_runtime
from classifier.runtimes.onnxruntime import _providers
from msgspec.structs import replace

from tests.conftest import TINY_RECIPE

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("cpu", [CPU], [CPU]),
        ("cpu", [CUDA, CPU], [CPU]),
        ("cuda:0", [CPU], [CPU]),
        ("cuda:0", [CUDA, CPU], [(CUDA, {"device_id": "0"}), CPU]),
        ("cuda:1", [CUDA, CPU], [(CUDA, {"device_id": "1"}), CPU]),
        ("cuda", [CUDA, CPU], [(CUDA, {"device_id": "0"}), CPU]),
    ],
)
def test_a_gpu_computes_where_there_is_one_and_the_package_for_it(
    device: str, available: list[str], expected: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    assert _providers(device) == expected


@pytest.fixture
def folder(tiny_archive: Callable[..., Path]) -> Path:
    """An unpacked archive of tiny. Do not change it."""
    return tiny_archive("onnxruntime", "no-archive")


def source_in(folder: Path) -> Source:
    recipe = read_recipe(TINY_RECIPE)
    variant = recipe.variant("onnxruntime", "float32")
    return Source(directory=folder, serialized_file="tiny.onnx", recipe=recipe, variant=variant, threads=1)


@pytest.mark.slow
def test_the_weights_of_linear_layers_stay_mapped_to_their_file(folder: Path) -> None:
    forward = load_runtime(source_in(folder))
    forward(np.zeros((2, 32, 32, 3), np.uint8))
    assert str(folder / "tiny.onnx.data") in Path("/proc/self/maps").read_text()


@pytest.mark.slow
def test_a_file_with_its_weights_in_it_as_archives_once_had_is_loaded(
    folder: Path, tiny: Classifier, tmp_path: Path
) -> None:
    onnx.save(onnx.load(folder / "tiny.onnx"), tmp_path / "tiny.onnx")
    forward = load_runtime(source_in(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(forward(pixels), tiny.forward(pixels), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("beside", "workers", "as_they_are"), [(True, 2, True), (True, 1, False), (False, 2, False)])
def test_weights_are_rearranged_as_suits_the_processor_unless_several_workers_share_them(
    beside: bool, workers: int, as_they_are: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in the graph are: without that, quantised ones take twice the time."""
    onnx.save(onnx.load(folder / "tiny.onnx"), tmp_path / "tiny.onnx")
    told: list[tuple[str, str]] = []

    class Options(onnxruntime.SessionOptions):  # type: ignore[misc] # has no types
        def add_session_config_entry(self, name: str, value: str) -> None:
            told.append((name, value))

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    source = source_in(folder if beside else tmp_path)
    serving = replace(source.recipe.serving, workers=workers)
    load_runtime(replace(source, recipe=replace(source.recipe, serving=serving)))
    assert told == ([("session.disable_prepacking", "1")] if as_they_are else [])
