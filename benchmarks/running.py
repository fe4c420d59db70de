"""Servers that are started to be measured: this project's as a user starts it, and TorchServe's own."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
import psutil

from benchmarks.load import first_answer
from benchmarks.stock import stock_command, stock_config
from scripts.archives.store import Archive
from scripts.console import UserError
from scripts.torchserve.server import Server, find, start, stop

_POLL_S: Final = 0.02


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A server that has answered for the first time."""

    url: str
    field: str = ""  # of the form that carries a picture; without it the body is the picture
    start_s: float  # from the command to that answer
    processes: Callable[[], list[psutil.Process]]  # all of them


@contextmanager
def running_ours(archive: Archive, picture: Path) -> Iterator[Running]:
    """Start this project's server with one archive by its command, on free ports; stop it at the end.

    Raises:
        UserError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        state = Path(folder)
        command = [sys.executable, "-m", "scripts.command_line", "serve", f"--state={state}", "--ports=free"]
        command += [f"--models={archive.path.name}", f"--store={archive.path.parent}"]
        begin = time.perf_counter()
        launched = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while (server := find(state)) is None:
                if launched.poll():
                    raise UserError("the server did not start; its reason is above")
                time.sleep(_POLL_S)
            found = _answering(server, picture, begin)
            launched.wait()  # it waits for what has just been waited for, and then costs no more
            yield found
        finally:
            launched.wait()
            stop(state)


@contextmanager
def running_stock(archive: Archive, picture: Path) -> Iterator[Running]:
    """Start TorchServe's own handler in its default configuration, on free ports; stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        state = Path(folder)
        begin = time.perf_counter()
        try:
            server = start(stock_config(archive.path.parent), [archive], state, None, command=stock_command)
            yield _answering(server, picture, begin)
        finally:
            stop(state)


def _answering(server: Server, picture: Path, begin: float) -> Running:
    start_s = first_answer(url(server), picture, begin)
    return Running(url=url(server), start_s=start_s, processes=lambda: processes(server.pid))


def url(server: Server) -> str:
    """The address at which a TorchServe's first model answers."""
    return f"{server.addresses.inference}/predictions/{server.models[0][0]}"


def processes(pid: int) -> list[psutil.Process]:
    """A process and all its descendants; none if it is gone."""
    try:
        leader = psutil.Process(pid)
        return [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(of: Iterable[psutil.Process]) -> float:
    """The CPU time that these processes have used so far, in seconds; those that have ended do not count."""
    total = 0.0
    for process in of:
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:2])
    return total


def memory_mb(of: Iterable[psutil.Process]) -> float:
    """The proportional set size that these processes together have if no other program runs, in MiB.

    PSS itself gives each process a part of a page that several have mapped. So it is lower while anybody else, this
    benchmark for example, has loaded the same libraries. Here a file counts once, whoever else has mapped it. Processes
    that have ended do not count.
    """
    total, shared = 0, dict[str, int]()
    for process in of:
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            for part in process.memory_maps():
                if part.path.startswith("/"):
                    total += part.private_clean + part.private_dirty
                    shared[part.path] = max(shared.get(part.path, 0), part.shared_clean + part.shared_dirty)
                else:  # memory of no file, which only forks share
                    total += part.pss
    return (total + sum(shared.values())) / 2**20
