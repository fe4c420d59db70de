from datetime import datetime, timedelta
from pathlib import Path

import pytest

from scripts.torchserve.log import NO_ANSWER, NO_WORDS, Workers, read_workers

NAME = "W-9000-efficientnet_lite0_1.0"
BEGIN = datetime(2026, 11, 25, 16, 47, 44)
MISSING = "RuntimeError: cannot serve efficientnet_lite0: identity.json is missing"


def change(second: float, before: str, after: str, name: str = NAME) -> str:
    moment = (BEGIN + timedelta(seconds=second)).isoformat(timespec="milliseconds").replace(".", ",")
    return f"{moment} [DEBUG] {name} org.pytorch.serve.wlm.WorkerThread - {name} State change {before} -> {after}"


def said(second: float, text: str, name: str = NAME) -> str:
    moment = (BEGIN + timedelta(seconds=second)).isoformat(timespec="milliseconds").replace(".", ",")
    return f"{moment} [INFO ] {name}-stdout MODEL_LOG - {text}"


def start(second: float, first: bool = False) -> list[str]:
    return [change(second, "null" if first else "WORKER_STOPPED", "WORKER_STARTED")]


def loaded(second: float) -> list[str]:
    return [change(second, "WORKER_STARTED", "WORKER_MODEL_LOADED")]


def killed(second: float) -> list[str]:
    return [change(second, "WORKER_MODEL_LOADED", "WORKER_STOPPED")]


def refused(second: float) -> list[str]:
    """It cannot load: what it says before it dies, and what TorchServe says then."""
    return [
        said(second, MISSING),
        said(second, "Backend worker process died."),
        said(second, "RuntimeError: 500 - Unknown exception"),
        change(second, "WORKER_STARTED", "WORKER_ERROR"),
        change(second, "WORKER_ERROR", "WORKER_STOPPED"),
    ]


def history(*parts: list[str]) -> Workers:
    workers = Workers()
    for line in [line for part in parts for line in part]:
        workers.read(line + "\n")
    return workers


def test_a_worker_that_never_died_has_no_history() -> None:
    (worker,) = history(start(0, first=True), loaded(1)).of("efficientnet_lite0", "1.0")
    assert (worker.restarts, worker.trouble) == (0, None)


def test_a_scaled_down_worker_did_not_die() -> None:
    down = [
        change(2, "WORKER_MODEL_LOADED", "WORKER_SCALED_DOWN"),
        change(2, "WORKER_SCALED_DOWN", "WORKER_STOPPED"),
    ] * 9
    workers = history(start(0, first=True), loaded(1), down)
    assert workers.trouble is None
    assert workers.of("efficientnet_lite0", "1.0")[0].restarts == 0


LATE = (
    f"2026-11-25T16:47:49,000 [ERROR] {NAME} org.pytorch.serve.wlm.WorkerThread"
    " - Number or consecutive unsuccessful inference 1"
)


@pytest.mark.parametrize(
    ("said_before", "reason"),
    [
        ([], NO_WORDS),
        ([said(4, "ValueError: of a request, long ago")], NO_WORDS),
        ([said(4, "Backend worker process died."), said(4, "ValueError: of the worker")], "ValueError: of the worker"),
        ([LATE], NO_ANSWER),
    ],
)
def test_the_reason_of_a_death_is_kept_when_the_worker_is_back(said_before: list[str], reason: str) -> None:
    last = [*said_before, *killed(5)]
    workers = history(start(0, first=True), loaded(1), last)
    assert workers.of("efficientnet_lite0", "1.0")[0].reason == reason
    workers = history(start(0, first=True), loaded(1), last, start(7), loaded(8))
    (worker,) = workers.of("efficientnet_lite0", "1.0")
    assert (worker.restarts, worker.reason, workers.trouble) == (1, reason, None)


def test_a_worker_that_dies_of_its_requests_is_in_trouble_at_the_fifth_death() -> None:
    lives = [
        [*start(6 * index, first=index == 0), *loaded(6 * index + 1), *killed(6 * index + 2)] for index in range(5)
    ]
    assert history(*lives[:4]).trouble is None
    assert history(*lives).trouble == f"a worker of efficientnet_lite0 1.0 died 5 times in 24 s: {NO_WORDS}"


def test_five_deaths_in_a_day_are_no_trouble() -> None:
    hour = 3600
    lives = [[*start(hour * n, first=n == 0), *loaded(hour * n + 1), *killed(hour * n + 2)] for n in range(9)]
    assert history(*lives).trouble is None


def test_deaths_of_different_workers_are_counted_apart() -> None:
    lines = [
        change(index, "WORKER_MODEL_LOADED", "WORKER_STOPPED", f"W-900{index}-efficientnet_lite0_1.0")
        for index in range(9)
    ]
    assert history(lines).trouble is None


def test_a_worker_that_does_not_load_any_more_is_in_trouble_with_its_exception() -> None:
    lives = [[*start(5 * index), *refused(5 * index + 2)] for index in range(4)]
    begin = [*start(-9, first=True), *loaded(-8), *killed(-1)]
    assert history(begin, *lives[:3]).trouble is None
    assert history(begin, *lives).trouble == f"a worker of efficientnet_lite0 1.0 died 5 times in 18 s: {MISSING}"


def test_a_slow_worker_that_torchserve_gave_up_is_in_trouble_after_two_deaths() -> None:
    workers = history(start(0, first=True), loaded(1), killed(2), start(4), refused(304))
    assert workers.trouble == (
        f"a worker of efficientnet_lite0 1.0 did not load within 300 s, and TorchServe has given it up: {MISSING}"
    )


def test_a_whole_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("\n".join(["a line of Java's", *start(0, first=True), *loaded(1), *killed(2), *start(3)]))
    (worker,) = read_workers(log).of("efficientnet_lite0", "1.0")
    assert worker.restarts == 1
    assert read_workers(log).of("vgg16", "1.0") == []
