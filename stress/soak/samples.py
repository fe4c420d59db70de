"""Samples of what a server holds, taken every few seconds: memory, descriptors, files."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
import psutil

from scripts.torchserve.server import Server, front_end, workers

EVERY_S: Final = 2.0


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One sample. Memory is in bytes: a worker's proportional set size (PSS), the front end's resident size (RSS)."""

    at_s: float  # since the load began
    workers: dict[int, int]  # memory by pid
    front_end: int
    descriptors: int  # of front end and workers, without the clients' connections
    temporary_files: int
    state_files: int
    log_bytes: int

    @property
    def memory(self) -> int:
        """The memory of all workers together."""
        return sum(self.workers.values())


def take(server: Server, state: Path, at_s: float) -> Sample:
    """Take a sample of a server now."""
    java, processes = front_end(server), workers(server)
    logs = [path.stat().st_size for path in (state / "logs").iterdir() if path.is_file()]
    return Sample(
        at_s=at_s,
        workers={process.pid: process.memory_full_info().pss for process in processes},
        front_end=java.memory_info().rss,
        descriptors=java.num_fds() - _connections(java) + sum(process.num_fds() for process in processes),
        temporary_files=sum(1 for _ in Path(server.temporary).rglob("*")),
        state_files=sum(1 for _ in state.rglob("*")),
        log_bytes=sum(logs),
    )


def _connections(java: psutil.Process) -> int:
    """The number of HTTP and gRPC sockets with a client, or with one that has just left."""
    return sum(connection.status != psutil.CONN_LISTEN for connection in java.net_connections("tcp"))


@contextmanager
def sampling(server: Server, state: Path) -> Iterator[list[Sample]]:
    """Take samples until the end, one every few seconds. While a worker is dead it is missing in them."""
    samples: list[Sample] = []
    end = threading.Event()
    begin = time.monotonic()

    def sample() -> None:
        while not end.wait(EVERY_S):
            with suppress(psutil.NoSuchProcess):  # a worker died during the sample; the next one shows that
                samples.append(take(server, state, time.monotonic() - begin))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        end.set()
        thread.join()
