"""The Python models of a repository, with a stand-in for what Triton gives them. test_triton.py has the real one."""

import importlib.util
import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Barrier
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from classifier.decode import decode_scaled
from classifier.digests import DIGESTS_FILE, write_digests
from numpy.typing import NDArray

from edge.triton.repository import write_repository
from scripts.archives.store import find_archive

Load = Callable[[str], Any]
SECRET = "/secret/path"  # noqa: S105 - what an exception may say, and an answer may not


class Tensor:
    def __init__(self, name: str, values: NDArray[Any]) -> None:
        self.name, self.values = name, values

    def as_numpy(self) -> NDArray[Any]:
        return self.values


class TritonError(Exception):
    """The codes are numbers, as Triton's are."""

    INVALID_ARG, INTERNAL, UNSUPPORTED = range(3)

    def __init__(self, message: str, code: int) -> None:
        self.problem, self.code = json.loads(message), code


class Request:
    def __init__(self, name: str, values: NDArray[Any], **parameters: object) -> None:
        self.tensors, self._parameters = {name: Tensor(name, values)}, json.dumps(parameters)

    def parameters(self) -> str:
        return self._parameters

    def request_id(self) -> str:
        return "7f3a"


def response(tensors: list[Tensor] | None = None, error: TritonError | None = None) -> SimpleNamespace:
    return SimpleNamespace(values=None if tensors is None else tensors[0].values, error=error)


def tensor_of(request: Request, name: str) -> Tensor:
    return request.tensors[name]


@pytest.fixture
def folder(tiny_archive: Callable[..., Path], tmp_path: Path) -> Path:
    """A repository of tiny."""
    path = tiny_archive("eager")
    write_repository([find_archive(path.name, path.parent)], "python", tmp_path)
    return tmp_path


@pytest.fixture
def load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """A step's model, initialised as Triton does it."""
    utils = ModuleType("triton_python_backend_utils")
    vars(utils).update(
        Tensor=Tensor, TritonError=TritonError, InferenceResponse=response, get_input_tensor_by_name=tensor_of
    )
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    monkeypatch.delitem(sys.modules, "triton_problems", raising=False)

    def model(name: str) -> Any:
        version = folder / f"tiny_{name}" / "100"
        monkeypatch.syspath_prepend(version)
        spec = importlib.util.spec_from_file_location(f"triton_{name}", version / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded = module.TritonPythonModel()
        loaded.initialize({"model_instance_kind": "CPU", "model_instance_device_id": "0"})
        return loaded

    return model


def image(content: bytes) -> Request:
    return Request("IMAGE", np.frombuffer(content, np.uint8)[None])


def test_pictures_of_different_requests_are_decoded_at_the_same_time(
    folder: Path, load: Load, cat: bytes, coffee: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = folder / "tiny_decode" / "100"
    recipe = version / "recipe.yaml"
    recipe.write_text(re.sub(r"threads: \d+", "threads: 2", recipe.read_text()))
    (version / DIGESTS_FILE).unlink()
    write_digests(version)
    both = Barrier(2, timeout=30)

    def waiting(*arguments: Any) -> Any:
        both.wait()  # breaks, and with it the picture, if the other one is not being decoded too
        return decode_scaled(*arguments)

    monkeypatch.setattr("classifier.pipeline.decode_scaled", waiting)
    responses = load("decode").execute([image(cat), image(coffee)])
    assert [item.error for item in responses] == [None, None]
    assert {item.values.shape for item in responses} == {(1, 32, 32, 3)}


def test_a_request_of_several_pictures_gets_its_rows_or_the_problem_of_the_bad_one(load: Load, cat: bytes) -> None:
    rows = np.stack([np.frombuffer(cat, np.uint8)] * 2)
    mixed = rows.copy()
    mixed[1] = 0
    good, bad = load("decode").execute([Request("IMAGE", rows), Request("IMAGE", mixed)])
    assert good.values.shape == (2, 32, 32, 3)
    assert (bad.error.code, bad.error.problem["code"]) == (TritonError.INVALID_ARG, "not_an_image")


def test_the_network_gives_every_request_its_own_rows(load: Load) -> None:
    random = np.random.default_rng(0)
    pixels = [random.integers(0, 256, (count, 32, 32, 3), np.uint8) for count in (1, 3, 2)]
    network = load("network")
    together = network.execute([Request("pixels", rows) for rows in pixels])
    for answered, rows in zip(together, pixels, strict=True):
        (alone,) = network.execute([Request("pixels", rows)])
        assert answered.values.shape == (len(rows), 10)
        np.testing.assert_allclose(answered.values, alone.values, atol=1e-5)


def test_a_failing_network_is_internal_and_tells_the_reason_to_the_log_alone(
    load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(SECRET)

    network = load("network")
    monkeypatch.setattr("classifier.pipeline.Classifier.logits", fail)
    with caplog.at_level(logging.ERROR):
        responses = network.execute([Request("pixels", np.zeros((1, 32, 32, 3), np.uint8))] * 2)
    assert_internal(responses, caplog)
    assert SECRET in caplog.text


def test_logits_that_are_not_finite_fail_their_own_request(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    logits = np.zeros((1, 10), np.float32)
    good, bad = load("rank").execute([Request("logits", logits), Request("logits", logits * np.nan)])
    assert good.values.shape == (1, 1)
    assert_internal([bad], caplog)


def assert_internal(responses: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    for item in responses:
        assert (item.error.code, item.error.problem["code"]) == (TritonError.INTERNAL, "internal")
        assert SECRET not in json.dumps(item.error.problem)
    assert "7f3a" in caplog.text


@pytest.mark.parametrize("parameters", [{"top_k": 2}, {"top_k": "2"}, {"X-Top-K": "2"}, {"x-top-k": "2"}])
def test_top_k_may_come_by_its_own_name_or_its_headers(load: Load, parameters: dict[str, object]) -> None:
    logits = np.arange(10, dtype=np.float32)[None]
    (answered,) = load("rank").execute([Request("logits", logits, **parameters)])
    assert len(json.loads(answered.values[0, 0])["predictions"]) == 2


@pytest.mark.parametrize("value", [0, 11, "two", True, 1.5])
def test_any_other_top_k_is_a_bad_parameter(load: Load, value: object) -> None:
    (answered,) = load("rank").execute([Request("logits", np.zeros((1, 10), np.float32), top_k=value)])
    assert (answered.error.code, answered.error.problem["code"]) == (TritonError.INVALID_ARG, "bad_parameter")
