import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from classifier.baseline import Baseline, read_baseline
from classifier.errors import UnusableError
from classifier.labels import Label

LABELS = [Label("t01", "square"), Label("t02", "circle"), Label("t03", "star")]
CONTENT: dict[str, Any] = {
    "pictures": 1000,
    "classes": {"t01 square": 0.7, "other": 0.3},
    "bounds": [0.4, 0.8, 1.0],
    "confidence": [0.2, 0.3, 0.5],
}


def written(folder: Path, **changed: object) -> Path:
    path = folder / "baseline.json"
    path.write_text(json.dumps(CONTENT | changed))
    return path


def test_every_answer_has_one_bin_by_class_and_one_by_probability(tmp_path: Path) -> None:
    found = read_baseline(written(tmp_path), LABELS)
    assert [found.class_bin(label.full_name) for label in LABELS] == ["t01 square", "other", "other"]
    bins = [found.confidence_bin(value) for value in (0.0, 0.4, 0.41, 0.8, 0.99, 1.0, 1.0000001)]
    assert bins == ["0.4", "0.4", "0.8", "0.8", "1", "1", "1"]
    assert found.shares() == {
        ("class", "t01 square"): 0.7,
        ("class", "other"): 0.3,
        ("confidence", "0.4"): 0.2,
        ("confidence", "0.8"): 0.3,
        ("confidence", "1"): 0.5,
    }


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"classes": {"t01 square": 1.0}}, "that of 'other' among them"),
        ({"classes": {"t01 square": 0.1, "other": 0.1}}, "expected shares that sum up to 1"),
        ({"classes": {"t99 moon": 0.5, "other": 0.5}}, "t99 moon: no class of this model; make the baseline again"),
        ({"bounds": [0.8, 0.4, 1.0]}, "in ascending order"),
        ({"bounds": [0.4, 0.8, 0.9]}, "the last of them 1"),
        ({"confidence": [0.5, 0.5]}, "a share for each of the bounds"),
        ({"confidence": [0.5, 0.5, 0.5]}, "which sum up to 1"),
        ({"pictures": 0}, "pictures"),
        ({"more": 1}, "more"),
    ],
)
def test_what_is_no_baseline_is_refused_with_the_reason(tmp_path: Path, changed: dict[str, object], why: str) -> None:
    with pytest.raises(UnusableError, match=why):
        read_baseline(written(tmp_path, **changed), LABELS)


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    first = read_baseline(written(tmp_path), LABELS)
    assert msgspec.json.decode(msgspec.json.encode(first), type=Baseline) == first
