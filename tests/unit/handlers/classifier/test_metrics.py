"""The metrics of a worker. Each test has processes of its own: the library keeps its files as long as a process."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from classifier.errors import UnusableError
from classifier.identity import Model
from classifier.metrics import FOLDER_VARIABLE, metrics, relative_entropy
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

MODEL = Model(name="tiny", version="1.0", runtime="eager", precision="float32", weights="untrained")
COMMON = ("model", "runtime", "precision")
WORKER = """
import os, sys
import numpy as np
from classifier.identity import Model
from classifier.labels import Label
from classifier.metrics import metrics
from classifier.record import Record
from classifier.responses import Response
from classifier.service import Request

model = Model(name="tiny", version=sys.argv[1], runtime="eager", precision="float32", weights="untrained")
classes = [Label(f"n{number}", f"class {number}") for number in range(int(sys.argv[2]))]
counting = metrics(os.environ, model, classes)
record = Record()
for stage in ("decode", "forward", "rank"):
    with record.stage(stage):
        pass
record.see("JPEG", 2_000_000)
record.see("PNG", 30_000)
record.scores.append(np.eye(len(classes), dtype=np.float32)[0])
good = Response(status=200, content_type="application/json", body=b"{}")
bad = Response(status=415, content_type="application/problem+json", body=b"{}", code="not_an_image")
requests = [Request(body=b"1"), Request(body=b"2"), Request(body=None, wants="description")]
counting.write(requests, [good, bad, good], record, 0.04)
if len(sys.argv) > 3:  # every class once more
    for row in np.eye(len(classes), dtype=np.float32):
        many = Record()
        many.scores.append(row)
        counting.write([], [], many, 0.04)
print("counted", flush=True)
sys.stdin.readline()
"""


def start(folder: Path, version: str = "1.0", classes: int = 3, *more: str) -> subprocess.Popen[str]:
    """A process that counts a batch as a worker does, and then waits for the end of its input."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, version, str(classes), *more],
        env={FOLDER_VARIABLE: str(folder), "PATH": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "counted\n"
    return process


def end(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.communicate("\n")
        assert process.returncode == 0


def collected(folder: Path) -> Counter[tuple[str, str]]:
    """The sum of each sample over all labels but its own, by its name and those."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    found: Counter[tuple[str, str]] = Counter()
    for family in registry.collect():
        for sample in family.samples:
            own = {
                name: value for name, value in sample.labels.items() if name not in ("runtime", "precision", "model")
            }
            found[sample.name, json.dumps(own, sort_keys=True)] += sample.value  # type: ignore[assignment] # floats
    return found


def key(name: str, **labels: str) -> tuple[str, str]:
    return f"classifier_{name}", json.dumps({"version": "1.0"} | labels, sort_keys=True)


@pytest.mark.slow
def test_a_batch_is_counted_by_status_code_format_and_class(tmp_path: Path) -> None:
    end(start(tmp_path / "new"))
    found = collected(tmp_path / "new")
    assert found[key("answers_total", wants="prediction", status="200", code="")] == 1
    assert found[key("answers_total", wants="prediction", status="415", code="not_an_image")] == 1
    assert found[key("answers_total", wants="description", status="200", code="")] == 1
    for wants in ("prediction", "explanation"):
        assert key("answers_total", wants=wants, status="500", code="internal") in found  # at 0
    assert [found[key("pictures_total", format=name)] for name in ("JPEG", "PNG", "GIF")] == [1, 1, 0]
    assert [found[key("picture_megapixels_bucket", le=bound)] for bound in ("0.05", "1.0", "2.0")] == [1, 1, 2]
    assert [found[key("stage_seconds_count", stage=stage)] for stage in ("decode", "forward", "rank")] == [1, 1, 1]
    assert (found[key("batch_seconds_sum")], found[key("batch_requests_sum")]) == (0.04, 3)
    assert (found[key("confidence_sum")], found[key("entropy_sum")]) == (1, 0)
    assert found[key("classes_total", **{"class": "n0 class 0"})] == 1
    assert found[key("worker_starts_total")] == 1


@pytest.mark.slow
def test_workers_at_once_count_apart_and_one_after_another_goes_on(tmp_path: Path) -> None:
    one, other = start(tmp_path), start(tmp_path, "2.0")
    end(one)
    again = start(tmp_path)  # as the first one died
    end(other, again)
    found = collected(tmp_path)
    assert found[key("worker_starts_total")] == found[key("batch_seconds_count")] == 2
    assert found[key("worker_starts_total", version="2.0")] == 1
    assert sorted(path.name for path in tmp_path.glob("*.db")) == [
        "counter_0.db",
        "counter_1.db",
        "histogram_0.db",
        "histogram_1.db",
    ]


@pytest.mark.slow
def test_of_very_many_classes_most_are_counted_together(tmp_path: Path) -> None:
    end(start(tmp_path, "1.0", 150, "all"))
    found = collected(tmp_path)
    classes = {labels: value for (name, labels), value in found.items() if name == "classifier_classes_total"}
    assert len(classes) == 101
    assert found[key("classes_total", **{"class": "other"})] == 50
    assert sum(classes.values()) == 151


def test_entropy_is_relative_to_that_of_all_classes_alike() -> None:
    rows = np.array([[1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], np.float32)
    assert relative_entropy(rows).tolist() == pytest.approx([0, 1, 0.5, 0, 1])
    assert relative_entropy(np.ones((1, 1), np.float32)).tolist() == [0]


@pytest.mark.parametrize("environment", [{}, {FOLDER_VARIABLE: ""}])
def test_nothing_is_counted_unless_the_environment_asks_for_it(environment: dict[str, str]) -> None:
    assert metrics(environment, MODEL, []) is None


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnusableError, match=f"{FOLDER_VARIABLE}={tmp_path}/file: "):
        metrics({FOLDER_VARIABLE: f"{tmp_path}/file"}, MODEL, [])
