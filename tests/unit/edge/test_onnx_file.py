import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edge.onnx_file import write_onnx
from scripts.console import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tiny_archive: Callable[..., Path]) -> Path:
    tiny_archive("eager")
    return tiny_archive("onnxruntime").parent


def test_the_file_is_valid_runs_with_any_batch_and_its_graph_is_printed(store: Path, tmp_path: Path) -> None:
    path, printed, difference = write_onnx("tiny", store, tmp_path)
    assert difference < 1e-5
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path)
    for size in (1, 3):
        (logits,) = session.run(None, {"pixels": np.zeros((size, 32, 32, 3), np.uint8)})
        assert logits.shape == (size, 10)
    text = printed.read_text()
    assert "Conv" in text
    assert re.search(r"uint8\[\w+,32,32,3\] pixels", text)
    assert len(text) < 20_000  # no weights


def test_without_the_archives_it_says_what_to_build(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make archive MODEL=other"):
        write_onnx("other", store, tmp_path)


def test_another_models_file_is_not_written(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.onnx_file._ROUNDING", -1.0)
    with pytest.raises(UserError, match="logits differ"):
        write_onnx("tiny", store, tmp_path)
    assert list(tmp_path.iterdir()) == []
