from pathlib import Path

import pytest

from scripts.console import tail
from scripts.torchserve.log import failure, last_words

STARTED = """\
2026-11-23T06:43:10,509 [DEBUG] W-9000-vgg16_1.0 org.pytorch.serve.wlm.WorkerThread - W-9000-vgg16_1.0 State change null -> WORKER_STARTED
2026-11-23T06:43:10,512 [INFO ] W-9000-vgg16_1.0-stdout MODEL_LOG - Torch worker started.
"""  # noqa: E501 - these are TorchServe's lines
READY = """\
2026-11-23T06:43:18,383 [INFO ] W-9000-vgg16_1.0-stdout MODEL_LOG - ready on cpu: Model(name='vgg16', version='1.0')
2026-11-23T06:43:18,389 [DEBUG] W-9000-vgg16_1.0 org.pytorch.serve.wlm.WorkerThread - W-9000-vgg16_1.0 State change WORKER_STARTED -> WORKER_MODEL_LOADED
"""  # noqa: E501
SCALED_DOWN = """\
2026-11-23T06:43:20,335 [DEBUG] epollEventLoopGroup-3-1 org.pytorch.serve.wlm.WorkerThread - W-9000-vgg16_1.0 State change WORKER_MODEL_LOADED -> WORKER_SCALED_DOWN
2026-11-23T06:43:20,336 [DEBUG] W-9000-vgg16_1.0 org.pytorch.serve.wlm.WorkerThread - W-9000-vgg16_1.0 State change WORKER_SCALED_DOWN -> WORKER_STOPPED
"""  # noqa: E501
RAISED = """\
2026-11-23T06:43:11,100 [INFO ] W-9000-vgg16_1.0-stdout MODEL_LOG - Backend worker process died.
2026-11-23T06:43:11,100 [INFO ] W-9000-vgg16_1.0-stdout MODEL_LOG - Traceback (most recent call last):
2026-11-23T06:43:11,101 [INFO ] W-9000-vgg16_1.0-stdout MODEL_LOG -   File "image_classifier_handler.py", line 40, in initialize
2026-11-23T06:43:11,101 [INFO ] W-9000-vgg16_1.0-stdout MODEL_LOG - classifier.errors.BrokenArchiveError: vgg16: net.py is missing
2026-11-23T06:43:11,102 [INFO ] W-9000-vgg16_1.0-stdout MODEL_LOG - RuntimeError: cannot serve vgg16: vgg16: net.py is missing
2026-11-23T06:43:11,103 [INFO ] W-9000-vgg16_1.0-stdout MODEL_LOG - RuntimeError: 500 - Unknown exception
"""  # noqa: E501
DIED = """\
2026-11-23T06:43:11,200 [DEBUG] W-9000-vgg16_1.0 org.pytorch.serve.wlm.WorkerThread - W-9000-vgg16_1.0 State change WORKER_STARTED -> WORKER_STOPPED
"""  # noqa: E501
ANOTHER = """\
2026-11-23T06:43:11,300 [INFO ] W-9001-efficientnet_lite0_1.0-stdout MODEL_LOG - ValueError: this is another worker's
"""
REFUSED = """\
2026-11-23T06:43:09,000 [ERROR] main org.pytorch.serve.ModelServer - Failed to load model: vgg16-eager-1.0.mar
org.pytorch.serve.archive.model.InvalidModelException: Model archive version is not defined correctly
\tat org.pytorch.serve.archive.model.ModelArchive.validate(ModelArchive.java:200)
"""


@pytest.mark.parametrize("log", ["", STARTED, STARTED + READY, STARTED + READY + SCALED_DOWN])
def test_a_log_without_failure_has_none(log: str) -> None:
    assert failure(log) is None


@pytest.mark.parametrize("end", [DIED, DIED.replace("WORKER_STOPPED", "WORKER_ERROR")])
def test_a_worker_that_died_while_loading_is_named_with_its_reason(end: str) -> None:
    assert failure(STARTED + RAISED + ANOTHER + end + ANOTHER) == (
        "a worker of vgg16 1.0 died while loading: RuntimeError: cannot serve vgg16: vgg16: net.py is missing"
    )


def test_a_model_name_may_have_underscores() -> None:
    log = (STARTED + RAISED + DIED).replace("vgg16", "efficientnet_lite0")
    assert "a worker of efficientnet_lite0 1.0 died" in (failure(log) or "")


def test_an_archive_that_torchserve_refuses_is_named_with_its_reason() -> None:
    assert failure(REFUSED + STARTED) == (
        "TorchServe cannot load vgg16-eager-1.0.mar: org.pytorch.serve.archive.model.InvalidModelException: "
        "Model archive version is not defined correctly"
    )


@pytest.mark.parametrize(
    ("log", "worker", "words"),
    [
        (STARTED + RAISED + ANOTHER, None, "ValueError: this is another worker's"),
        (
            STARTED + RAISED + ANOTHER,
            "W-9000-vgg16_1.0",
            "RuntimeError: cannot serve vgg16: vgg16: net.py is missing",
        ),
        (STARTED, None, "Torch worker started."),
        (STARTED, "W-9007-vgg16_1.0", "it wrote nothing"),
        ("", None, "it wrote nothing"),
        (RAISED.replace("-stdout", "-stderr"), None, "RuntimeError: cannot serve vgg16: vgg16: net.py is missing"),
    ],
)
def test_the_last_words_are_the_last_exception_or_the_last_lines(log: str, worker: str | None, words: str) -> None:
    assert last_words(log, worker) == words


def test_without_an_exception_the_last_words_are_ten_lines() -> None:
    lines = [f"2026-11-23T06:43:10,512 [INFO ] W-9000-vgg16_1.0-stdout MODEL_LOG - line {n}\n" for n in range(12)]
    assert last_words("".join(lines)).splitlines() == [f"line {n}" for n in range(2, 12)]


@pytest.mark.parametrize(("lines", "expected"), [(2, "b\nc"), (9, "a\nb\nc")])
def test_the_tail_of_a_log_is_its_last_lines_also_when_some_bytes_are_no_text(
    lines: int, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "console.log").write_bytes(b"a\nb\nc\n")
    assert tail(tmp_path / "console.log", lines) == expected
    (tmp_path / "console.log").write_bytes(b"a\n\xff\n")
    assert tail(tmp_path / "console.log", 1) == "\ufffd"


def test_a_snapshot_that_torchserve_loads_only_a_part_of_is_a_failure() -> None:
    """TorchServe goes on without the damaged archive, so that its workers would be waited for in vain."""
    line = (
        "2026-11-29T18:09:37,014 [ERROR] main org.pytorch.serve.snapshot.SnapshotManager - Error while retrieving "
        "snapshot details. Details: invalid entry CRC (expected 0xff485b65 but got 0xa4433895)\n"
    )
    why = "invalid entry CRC (expected 0xff485b65 but got 0xa4433895)"
    assert failure(STARTED + line + READY) == f"TorchServe cannot load every archive: {why}"
