"""The code of edge/vendors.md and edge/machines.md, run on small models; the links of the pages beside it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from classifier.pipeline import Classifier
from efficientnet_lite0 import EfficientNetLite0
from numpy.typing import NDArray

from edge.bundle import write_golden
from scripts.building.golden import photograph

EDGE = Path(__file__).parents[3] / "edge"
PAGES = sorted(EDGE.rglob("*.md"))


def code(page: str) -> list[str]:
    """The Python of a page."""
    return re.findall(r"```python\n(.*?)```", (EDGE / page).read_text(), re.DOTALL)


def logits(path: Path, tensor: Path) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (values,) = session.run(None, {session.get_inputs()[0].name: np.load(tensor)[None]})
    row: NDArray[np.float32] = values[0]
    return row


@pytest.fixture
def workplace(tmp_path: Path, tiny_archive: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page's code reads, those of tiny under its model's name."""
    classifier = Classifier.load(tiny_archive("onnxruntime", "no-archive"))
    golden = tmp_path / "bundles/efficientnet_lite0/golden"
    golden.mkdir(parents=True)
    for name in ("chelsea.png", "coffee.png"):
        write_golden(classifier, photograph(name), golden)
    (tmp_path / "onnx").mkdir()
    onnx.save(onnx.load(classifier.source.path), tmp_path / "onnx/efficientnet_lite0.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_cut_file_takes_the_golden_tensors_and_gives_their_logits(workplace: Path) -> None:
    cut, quantize = code("vendors.md")
    exec(cut, {})  # noqa: S102 - the page's own code
    path = workplace / "onnx/efficientnet_lite0-nchw.onnx"
    onnx.checker.check_model(path, full_check=True)
    (taken,) = onnx.load(path).graph.input
    assert [dimension.dim_value for dimension in taken.type.tensor_type.shape.dim] == [1, 3, 32, 32]
    assert taken.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    tensors = sorted(workplace.glob("bundles/*/golden/*.npy"))
    assert tensors
    for tensor in tensors:
        expected = json.loads(tensor.with_suffix(".json").read_text())["logits"]
        assert logits(path, tensor) == pytest.approx(expected, abs=1e-5)

    exec(quantize, {})  # noqa: S102
    path = workplace / "onnx/efficientnet_lite0-int8.onnx"
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(path).graph.node}
    for tensor in tensors:
        expected = json.loads(tensor.with_suffix(".json").read_text())["logits"]
        assert logits(path, tensor) == pytest.approx(expected, abs=0.5)


@pytest.mark.slow
def test_the_code_for_a_tpu_runs_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(EfficientNetLite0().state_dict(), tmp_path / "my_weights.pth")
    monkeypatch.chdir(tmp_path)
    (text,) = code("machines.md")
    assert '"xla"' in text
    found: dict[str, torch.Tensor] = {}
    exec(text.replace("import torch_xla\n", "").replace('"xla"', '"cpu"'), found)  # noqa: S102
    assert found["logits"].shape == (8, 1000)
