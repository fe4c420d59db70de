"""Programs of this project that go on in the background, and are found again by the program that ends them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

import msgspec
import psutil

from scripts.console import UserError, tail

_POLL_S: Final = 0.05

# The programs that this process itself started. It must collect their exit codes, or they remain as zombies.
_children: dict[int, subprocess.Popen[bytes]] = {}


class _Process(msgspec.Struct, frozen=True):
    """A process, as written to its file."""

    pid: int
    created: float  # its start time, so that another process with a reused pid is not taken for it


def start(
    name: str,
    module: Sequence[str],
    record: Path,
    log: Path,
    deadline_s: float,
    ready: Callable[[int], bool],
    without: Collection[str] = (),
) -> None:
    """Start a program of this project in a session of its own, and wait until it is ready.

    Args:
        name: what error messages call it.
        module: the module, and its arguments.
        record: the file that `stop` finds it by.
        log: the file of its output.
        deadline_s: how long it may take.
        ready: whether it is, by its process's number.
        without: variables of the environment that it does not get.

    Raises:
        UserError: it does not become ready, and has been ended; the message has the end of its log.
    """
    environment = {variable: value for variable, value in os.environ.items() if variable not in without}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _children[process.pid] = process
    record.write_bytes(msgspec.json.encode(_Process(process.pid, psutil.Process(process.pid).create_time())))
    deadline = time.monotonic() + deadline_s
    while not ready(process.pid):
        if process.poll() is not None or time.monotonic() > deadline:
            stop(record, deadline_s)
            raise UserError(f"{name} does not start:\n{tail(log, 20)}")
        time.sleep(_POLL_S)


def stop(record: Path, deadline_s: float) -> bool:
    """End the program of a file, if it still runs, and remove the file. False if it did not run.

    Args:
        record: the file.
        deadline_s: how long it may take to end.
    """
    process = _running(record)
    if process is not None:
        process.terminate()
        psutil.wait_procs([process], timeout=deadline_s)
        if child := _children.pop(process.pid, None):
            child.wait(deadline_s)
    record.unlink(missing_ok=True)
    return process is not None


def _running(record: Path) -> psutil.Process | None:
    try:
        found = msgspec.json.decode(record.read_bytes(), type=_Process)
        process = psutil.Process(found.pid)
        return process if process.create_time() == found.created else None
    except (FileNotFoundError, msgspec.MsgspecError, psutil.NoSuchProcess):
        return None


def listens(pid: int) -> bool:
    """Whether a process takes connections; another one may have taken its port."""
    try:
        return any(item.status == psutil.CONN_LISTEN for item in psutil.Process(pid).net_connections("tcp"))
    except psutil.NoSuchProcess:
        return False
