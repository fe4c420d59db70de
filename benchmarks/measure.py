"""The measurements: the sides of a comparison run one after the other, in several rounds, on the same cores."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import psutil
import requests

from benchmarks.in_process import InProcess
from benchmarks.load import Load, closed_loop, open_loop
from benchmarks.pictures import Kind, mixed
from benchmarks.result import Lone, Open, Round, Start, Variant
from benchmarks.stock import stock_command, stock_config
from scripts.archives.store import Archive
from scripts.console import UserError
from scripts.torchserve.client import Client
from scripts.torchserve.command import Command, java
from scripts.torchserve.config import CONFIG_FILE, Addresses, read_config, with_free_ports
from scripts.torchserve.server import LOG_CONFIG, Server, find, serving, start, stop

_WARM_UP_S: Final = 2
_START_DEADLINE_S: Final = 120
_POLL_S: Final = 0.02
# A slow model answers in batches that take most of a second. With fewer answers than this, the last, unfinished batch
# is too large a part: in 3 s of VGG16 in float32, a fifth of the pictures that were served was not counted.
_ANSWERS: Final = 160
_SHARES: Final = (0.5, 0.7, 0.8, 0.9)  # of the closed loop's throughput, for the open loop

Say = Callable[[str], None]


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How long to measure."""

    rounds: int
    stock_s: float  # longer, because TorchServe's own handler answers only a few times a second
    seconds: float
    lone_s: float


@contextmanager
def serving_ours(archive: Archive) -> Iterator[Server]:
    """Run the project's server with one archive, on free ports."""
    config = with_free_ports(read_config(CONFIG_FILE)) | {"model_store": str(archive.path.parent.resolve())}
    with _serving(archive, config, LOG_CONFIG, java) as server:
        yield server


@contextmanager
def serving_stock(archive: Archive) -> Iterator[Server]:
    """Run TorchServe's own handler in its default configuration, on free ports."""
    with _serving(archive, stock_config(archive.path.parent), None, stock_command) as server:
        yield server


@contextmanager
def _serving(archive: Archive, config: dict[str, str], log_config: Path | None, command: Command) -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        serving(config, [archive], Path(folder), log_config, command=command) as server,
    ):
        yield server


def url(server: Server) -> str:
    """The address at which the server's first model answers."""
    return f"{server.addresses.inference}/predictions/{server.models[0][0]}"


def _send(server: Server, bodies: list[Path], clients: int, seconds: float) -> Load:
    """Run a closed loop, then wait for the requests left in the queue, so that they do not slow the next side."""
    load = closed_loop(url(server), bodies, clients, seconds)
    for _ in _workers(server):
        _predict(server, bodies[0])
    return load


def measure_rounds(
    variant: Variant, ours: Server, stock: Server | None, alone: InProcess, bodies: list[Path], effort: Effort, say: Say
) -> None:
    """Measure for three ratios: served over stock, over the bare forward pass, over the pipeline without a server."""
    if stock:
        _send(stock, bodies, variant.clients, _WARM_UP_S)
    warm_up = _send(ours, bodies, variant.clients, _WARM_UP_S)
    seconds = max(effort.seconds, _ANSWERS / (warm_up.rate or 1))
    cpu = answers = 0.0
    for number in range(effort.rounds):
        say(f"{variant.model} {variant.name}: round {number + 1} of {effort.rounds}")
        slow = _send(stock, bodies, variant.clients, effort.stock_s) if stock else None
        before = cpu_seconds(ours)
        served = _send(ours, bodies, variant.clients, seconds)
        cpu += cpu_seconds(ours) - before
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


def cpu_seconds(server: Server) -> float:
    """The CPU time that a server's processes have used so far, front end and workers, in seconds."""
    launcher = psutil.Process(server.pid)
    return sum(sum(process.cpu_times()[:2]) for process in (launcher, *launcher.children(recursive=True)))


def further_worker_mb(server: Server, picture: Path) -> float:
    """The proportional set size of a second worker, in MB: the memory that the machine needs beyond one worker."""
    name, version = server.models[0]
    client = Client(server.addresses)
    sizes = []
    for workers in (1, 2):
        client.scale(name, workers, version)
        client.wait_ready([(name, version)], _START_DEADLINE_S)
        for _ in range(8):  # both must have worked before their memory is measured
            _predict(server, picture)
        time.sleep(1)
        sizes.append(sum(process.memory_full_info().pss for process in _workers(server)))
    client.scale(name, 1, version)
    return float(sizes[1] - sizes[0]) / 2**20


def _workers(server: Server) -> list[psutil.Process]:
    children = psutil.Process(server.pid).children(recursive=True)
    return [process for process in children if any("model_service_worker" in part for part in process.cmdline())]


def _predict(server: Server, picture: Path) -> None:
    requests.post(url(server), data=picture.read_bytes(), timeout=60).raise_for_status()


def measure_start(ours: Archive, stock: Archive | None, picture: Path, say: Say) -> Start:
    """Measure the seconds from the command to the first 200."""
    say(f"{ours.identity.model.name}: cold start")
    return Start(ours=_start_ours(ours, picture), stock=_start_stock(stock, picture) if stock else None)


def _start_ours(archive: Archive, picture: Path) -> float:
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
            return _first_answer(server.addresses, archive, picture, begin)
        finally:
            launched.wait()
            stop(state)


def _start_stock(archive: Archive, picture: Path) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        state = Path(folder)
        begin = time.perf_counter()
        try:
            server = start(stock_config(archive.path.parent), [archive], state, None, command=stock_command)
            return _first_answer(server.addresses, archive, picture, begin)
        finally:
            stop(state)


def _first_answer(addresses: Addresses, archive: Archive, picture: Path, begin: float) -> float:
    body = picture.read_bytes()
    where = f"{addresses.inference}/predictions/{archive.identity.model.name}"
    while time.perf_counter() - begin < _START_DEADLINE_S:
        try:
            if requests.post(where, data=body, timeout=_START_DEADLINE_S).ok:
                return time.perf_counter() - begin
        except requests.ConnectionError:
            pass  # not listening yet
        time.sleep(_POLL_S)
    raise TimeoutError(f"no answer from {where} in {_START_DEADLINE_S} s")
