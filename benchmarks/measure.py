"""The measurements: the sides of a comparison run one after the other, in several rounds, on the same cores."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.in_process import InProcess
from benchmarks.load import Load, closed_loop, open_loop, post
from benchmarks.pictures import Kind, mixed
from benchmarks.result import Lone, Memory, Open, Round, Start, Variant
from benchmarks.running import cpu_seconds, memory_mb, processes, running_ours, running_stock, url
from benchmarks.stock import stock_command, stock_config
from scripts.archives.store import Archive
from scripts.serving.archives import as_snapshot
from scripts.torchserve.client import Client
from scripts.torchserve.command import Command, java
from scripts.torchserve.config import CONFIG_FILE, read_config, with_free_ports
from scripts.torchserve.launch import Variables
from scripts.torchserve.server import LOG_CONFIG, Server, serving, workers

SETTLED_S: Final = 35  # after loading: allocators give freed memory back twice a minute (classifier/allocator.py)
_READY_DEADLINE_S: Final = 120
_POLL_S: Final = 0.05
_PICTURES_BEFORE_MEMORY: Final = 8
# A slow model answers in batches that take most of a second. With fewer answers than this, the last, unfinished batch
# is too large a part: in 3 s of VGG16 in float32, a fifth of the pictures that were served was not counted.
_ANSWERS: Final = 160
_SHARES: Final = (0.5, 0.7, 0.8, 0.9)  # of the closed loop's throughput, for the open loop

Say = Callable[[str], None]


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How long to measure."""

    # Java compiles what runs often: the front end's CPU time for a picture falls from 3.9 ms in the first four seconds
    # of load to 1.3 ms after 16 s, and to 1.0 ms in the end.
    warm_up_s: float
    rounds: int
    stock_s: float  # longer, because TorchServe's own handler answers only a few times a second
    seconds: float
    lone_s: float

    def seconds_at(self, rate: float) -> float:
        """How long to load a server that answers at this rate, pictures a second."""
        return max(self.seconds, _ANSWERS / (rate or 1))


@contextmanager
def serving_ours(archive: Archive) -> Iterator[Server]:
    """Run the project's server with one archive, on free ports, with the log of requests that `make serve` writes."""
    config = with_free_ports(read_config(CONFIG_FILE)) | {"model_store": str(archive.path.parent.resolve())}
    config |= {"model_snapshot": as_snapshot([archive])}
    with _serving(archive, config, LOG_CONFIG, java, Variables(log="text")) as server:
        yield server


@contextmanager
def serving_stock(archive: Archive) -> Iterator[Server]:
    """Run TorchServe's own handler in its default configuration, on free ports."""
    with _serving(archive, stock_config(archive.path.parent), None, stock_command) as server:
        yield server


@contextmanager
def _serving(
    archive: Archive,
    config: dict[str, str],
    log_config: Path | None,
    command: Command,
    variables: Variables | None = None,
) -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        serving(config, [archive], Path(folder), log_config, command=command, variables=variables) as server,
    ):
        yield server


def _send(server: Server, bodies: list[Path], clients: int, seconds: float) -> Load:
    """Run a closed loop, then wait for the requests left in the queue, so that they do not slow the next side."""
    load = closed_loop(url(server), bodies, clients, seconds)
    for _ in workers(server):
        _predict(server, bodies[0])
    return load


def measure_rounds(
    variant: Variant, ours: Server, stock: Server | None, alone: InProcess, bodies: list[Path], effort: Effort, say: Say
) -> None:
    """Measure for three ratios: served over stock, over the bare forward pass, over the pipeline without a server."""
    if stock:
        _send(stock, bodies, variant.clients, effort.warm_up_s)
    warm_up = _send(ours, bodies, variant.clients, effort.warm_up_s)
    seconds = effort.seconds_at(warm_up.rate)
    cpu = answers = 0.0
    for number in range(effort.rounds):
        say(f"{variant.model} {variant.name}: round {number + 1} of {effort.rounds}")
        slow = _send(stock, bodies, variant.clients, effort.stock_s) if stock else None
        before = cpu_seconds(processes(ours.pid))
        served = _send(ours, bodies, variant.clients, seconds)
        cpu += cpu_seconds(processes(ours.pid)) - before
        answers += served.answers
        raw = alone.measure("raw", bodies, effort.seconds / 2)
        pipe = alone.measure("pipe", bodies, effort.seconds)
        variant.rounds.append(Round(stock=slow, served=served, raw=raw, pipe=pipe))
        variant.lone.append(
            Lone(
                served=_send(ours, bodies, 1, effort.lone_s),
                pipe=alone.measure("lone", bodies, effort.lone_s),
            )
        )
    variant.cpu_ms = cpu / answers * 1e3


def measure_mixed(
    variant: Variant, ours: Server, alone: InProcess, pictures: dict[Kind, list[Path]], effort: Effort, say: Say
) -> None:
    """Measure the mixed request set, from small pictures to 12 megapixels."""
    bodies = mixed(pictures)
    for number in range(effort.rounds):
        say(f"{variant.model} {variant.name}: mixed sizes, round {number + 1} of {effort.rounds}")
        served = _send(ours, bodies, variant.clients, effort.seconds)
        variant.mixed.append(Lone(served=served, pipe=alone.measure("pipe", bodies, effort.seconds)))


def measure_open_loop(variant: Variant, ours: Server, bodies: list[Path], effort: Effort, say: Say) -> None:
    """Measure latency against load: pictures are sent whether or not the earlier ones are answered."""
    for share in _SHARES:
        rate = share * variant.rate("served")
        say(f"{variant.model} {variant.name}: open loop at {rate:.0f} pictures/s")
        variant.open_loop.append(Open(rate=rate, load=open_loop(url(ours), bodies, rate, 3 * effort.seconds)))
        _predict(ours, bodies[0])


def measure_memory(server: Server, picture: Path) -> Memory:
    """The memory of a server with one worker, and what a second one adds: what the machine needs beyond the first.

    Measured when both have worked, and given back what loading took.
    """
    _scale(server, 2, picture)
    time.sleep(SETTLED_S)
    both = memory_mb(workers(server))
    _scale(server, 1, picture)
    return Memory(server_mb=memory_mb(processes(server.pid)), further_worker_mb=both - memory_mb(workers(server)))


def _scale(server: Server, count: int, picture: Path) -> None:
    """Wait until exactly that many workers are there, and have worked."""
    name, version = server.models[0]
    client = Client(server.addresses)
    client.scale(name, count, version)
    client.wait_ready([(name, version)], _READY_DEADLINE_S)
    deadline = time.monotonic() + _READY_DEADLINE_S
    while len(workers(server)) > count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} has more than {count} workers after {_READY_DEADLINE_S} s")
        time.sleep(_POLL_S)
    for _ in range(_PICTURES_BEFORE_MEMORY):
        _predict(server, picture)


def _predict(server: Server, picture: Path) -> None:
    post(url(server), picture).raise_for_status()


def measure_starts(
    archives: list[tuple[Variant, Archive]], stock: Archive | None, picture: Path, rounds: int, say: Say
) -> None:
    """Measure the seconds from the command to the first 200, of stock and of each archive, one after the other."""
    for number in range(rounds):
        say(f"cold start, round {number + 1} of {rounds}")
        slow = None
        if stock:
            with running_stock(stock, picture) as server:
                slow = server.start_s
        for variant, archive in archives:
            with running_ours(archive, picture) as server:
                variant.starts.append(Start(ours=server.start_s, stock=slow))
