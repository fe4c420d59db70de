"""The faults that may happen to one TorchServe, each under load from clients that record every outcome."""

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil
import requests
from PIL import Image

from scripts.archives.store import Archive, read_archive_recipe
from scripts.torchserve.server import CONSOLE_LOG, find, front_end, workers
from stress.clients import clients
from stress.faults.injection import full_disk, hung, kill, little_data, memory_group
from stress.faults.stand import DEADLINE_S, PAUSE_S, Run, Stand, load, more_answers, recover, short, until
from stress.hostile.files import encode
from stress.questions import Body

MORE_THAN_THE_QUEUE: Final = 80  # clients beyond those whose requests queue and workers hold

_CROWD_PAUSE_S: Final = 0.5  # of its clients after a refusal: they share the cores with the server
_SPARE: Final = 64_000_000  # bytes that a worker with little memory may still allocate; a huge picture takes 256 MB
_HUGE_SIDE: Final = 8000  # pixels, where the recipe allows as many
_BYTES_A_PIXEL: Final = 4  # of a picture while it is decoded
_HUGE_PICTURES: Final = 3
_LOGS: Final = Path("logs")


def _kill_a_worker(stand: Stand, run: Run) -> None:
    victim = workers(stand.server)[0]
    run.begin = time.monotonic()
    kill(victim)
    recover(stand, run, {victim.pid})


def one_of_two_workers_killed(stand: Stand) -> Run:
    """SIGKILL to one worker while another goes on."""
    stand.scale(2)
    with load(stand, "kill -9 of one of two workers") as (run, _):
        _kill_a_worker(stand, run)
    return run


def the_only_worker_killed(stand: Stand) -> Run:
    """SIGKILL to the only worker."""
    stand.scale(1)
    with load(stand, "kill -9 of the only worker") as (run, _):
        _kill_a_worker(stand, run)
    return run


def front_end_killed(stand: Stand) -> Run:
    """SIGKILL to Java. Nothing restarts it, so the scenario does so as soon as all other processes have ended."""
    with load(stand, "kill -9 of the front end") as (run, _):
        java, orphans = front_end(stand.server), workers(stand.server)
        run.begin = time.monotonic()
        kill(java)
        psutil.wait_procs(orphans, timeout=DEADLINE_S)
        orphaned = time.monotonic() - run.begin
        until(lambda: find(stand.state) is None, "end of the server")
        stand.start()
        recover(stand, run, {process.pid for process in orphans})
    run.note = f"workers end {orphaned:.1f} s after it; started again by hand"
    return run


def stopped(stand: Stand) -> Run:
    """SIGTERM to Java, as `make stop` sends it, and a new start."""
    with load(stand, "SIGTERM (`make stop`), then `make serve`") as (run, _):
        run.begin = time.monotonic()
        stand.stop()
        ended = time.monotonic() - run.begin
        stand.start()
        recover(stand, run, set())
    run.note = f"stopped after {ended:.1f} s; started again by hand"
    return run


def worker_hangs(stand: Stand) -> Run:
    """SIGSTOP to one of two workers, like a deadlock; TorchServe gives it up after the response timeout."""
    stand.scale(2)
    with load(stand, f"one of two workers hangs, response timeout {_described(stand)['responseTimeout']} s") as (
        run,
        _,
    ):
        victim = workers(stand.server)[0]
        run.begin = time.monotonic()
        with hung(victim):
            recover(stand, run, {victim.pid})
            run.note = "the hung process is left behind" if victim.is_running() else "the hung process is killed"
    return run


def _described(stand: Stand) -> dict[str, Any]:
    """The front end's description of the model."""
    url = f"{stand.server.addresses.management}/models/{stand.model}"
    (described,) = requests.get(url, timeout=DEADLINE_S).json()
    found: dict[str, Any] = described
    return found


def allocations_fail(stand: Stand) -> Run:
    """Huge pictures for the only worker, which may not allocate enough memory for them (RLIMIT_DATA)."""
    stand.scale(1)
    with load(stand, "a worker's allocations fail") as (run, _):
        (victim,) = workers(stand.server)
        run.begin = time.monotonic()
        with little_data(victim, _SPARE):
            run.note = _send_huge_pictures(stand)
        recover(stand, run, set())
    return run


def memory_limit_exceeded(stand: Stand) -> Run:
    """Huge pictures for the only worker, in a control group that is too small, so that the kernel kills it."""
    stand.scale(0)  # for a new worker: one that had such a picture has kept the memory for the next
    stand.scale(1)
    with load(stand, "a worker exceeds its container's memory") as (run, _):
        (victim,) = workers(stand.server)
        with memory_group(victim, _SPARE):
            run.begin = time.monotonic()
            run.note = _send_huge_pictures(stand)
            recover(stand, run, {victim.pid})
    return run


def allows_huge_pictures(archive: Archive) -> bool:
    """Whether the recipe allows pictures that take twice the memory that the scenarios leave."""
    return _BYTES_A_PIXEL * _huge_side(archive) ** 2 >= 2 * _SPARE


def _huge_side(archive: Archive) -> int:
    return min(_HUGE_SIDE, math.isqrt(read_archive_recipe(archive.path).input.max_pixels))


def _send_huge_pictures(stand: Stand) -> str:
    side = _huge_side(stand.archive)
    huge = Body("huge", encode(Image.new("RGB", (side, side), "teal"), "PNG"), 200)
    with clients(stand.url, [huge], 1, PAUSE_S) as loop:
        until(lambda: len(loop.answers()) >= _HUGE_PICTURES, "answer to huge pictures")
    said = Counter(f"{answer.status} {'' if answer.kept else short(answer.label)}" for answer in loop.answers())
    return "the huge pictures got " + ", ".join(f"{text.strip()} ({number} times)" for text, number in said.items())


def disk_full(stand: Stand) -> Run:
    """The file system of the logs is full."""
    stand.scale(2)
    folder = stand.state / _LOGS
    with load(stand, "disk full in the log folder") as (run, loop):
        run.begin = time.monotonic()
        before = _lines(folder)
        with full_disk(folder):
            more_answers(loop)
            unlogged = len(loop.answers(since=run.begin)) - (_lines(folder) - before)
        freed = _lines(folder)
        until(lambda: _lines(folder) > freed, "line in the access log")
        recover(stand, run, set())
    run.note = f"{unlogged} lines of the access log lost, then it goes on"
    (stand.state / CONSOLE_LOG).write_bytes(b"")  # the disk is small
    return run


def _lines(folder: Path) -> int:
    return (folder / "access_log.log").read_bytes().count(b"\n")


def archive_deleted(stand: Stand) -> Run:
    """The archive's file is deleted, then a worker dies, then the number of workers is raised."""
    return _without_archive(stand, "archive deleted, then kill -9 of one of two workers", lambda path: None)


def archive_replaced(stand: Stand, other: Path) -> Run:
    """The archive's file is replaced by another version's, then a worker dies, then the number of workers is raised."""
    fault = "archive replaced by one of another version, then kill -9 of one of two workers"
    return _without_archive(stand, fault, lambda path: shutil.copy(other, path))


def _without_archive(stand: Stand, fault: str, instead: Callable[[Path], object]) -> Run:
    stand.scale(2)
    path, kept = stand.archive.path, stand.archive.path.read_bytes()
    try:
        with load(stand, fault) as (run, loop):
            path.unlink()
            instead(path)
            _kill_a_worker(stand, run)
            scaled = time.monotonic()
            stand.scale(3)
            more_answers(loop)
            versions = {answer.version for answer in loop.answers(since=scaled) if answer.status == 200}
    finally:
        path.write_bytes(kept)
    run.note = f"a third worker starts too; version {' and '.join(sorted(versions))} answers"
    return run


def queue_full(stand: Stand) -> Run:
    """More clients than queue and workers hold; the time until healthy counts from the end of these clients."""
    stand.scale(2)
    room = int(stand.config["job_queue_size"]) + 2 * int(_described(stand)["batchSize"])
    with load(stand, f"queue full: {room + MORE_THAN_THE_QUEUE} more clients") as (run, _):
        run.begin = time.monotonic()
        with clients(stand.url, stand.questions, room + MORE_THAN_THE_QUEUE, _CROWD_PAUSE_S) as crowd:
            more_answers(crowd)
        run.lasted_s = time.monotonic() - run.begin
        recover(stand, run, set())
    run.answers += crowd.answers()
    run.note = f"the extra clients sent for {run.lasted_s:.1f} s; {_slowest(run)}"
    return run


def _slowest(run: Run) -> str:
    right = max(answer.seconds for answer in run.answers if answer.status == 200)
    refusal = max([answer.seconds for answer in run.failed], default=0)
    return f"slowest answer {right:.1f} s, slowest refusal {refusal:.1f} s"
