"""What metrics, exporter and request log cost: `python -m benchmarks.watching <archive>`.

Two servers of the same archive run at once, as `make serve` starts them: one as it is, asked for its metrics as
often as Prometheus would; the other without exporter, metrics and request log. They are loaded in turns. Then come
other pairs, because two servers of one archive, started in the same way, differ by some percent as long as they run.
"""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import psutil
import requests

from benchmarks.load import Load, closed_loop
from benchmarks.pictures import make_pictures
from benchmarks.result import LIGHT_CLIENTS
from benchmarks.running import cpu_seconds, memory_mb, processes, url
from scripts.archives.store import Archive, chosen_archive
from scripts.console import UserError, out, step
from scripts.exporter import beside
from scripts.torchserve.config import CONFIG_FILE, EXPORTER, read_config, with_absolute_files, write_config
from scripts.torchserve.server import Server, find, stop

_PAIRS: Final = 5
_ROUNDS: Final = 6  # of each pair
_ROUND_S: Final = 6
_WARM_UP_S: Final = 16
_SCRAPE_S: Final = 15  # as in monitoring/prometheus.yml


class _Side(NamedTuple):
    name: str
    server: Server
    processes: list[psutil.Process]  # all of them
    exporters: list[psutil.Process]  # the exporter among them, if there is one


class _Turn(NamedTuple):
    load: Load
    cpu_ms: float  # of all its processes, for each picture
    exporter_ms: float  # of the exporter


def main() -> None:
    """Measure an archive, named on the command line, and print the table."""
    _, name, *_ = [*sys.argv, ""]
    path = Path(name)
    archive = chosen_archive(path.name, None, path.parent)
    turns: list[list[_Turn]] = []
    memory: list[list[float]] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bodies = make_pictures(Path(folder) / "pictures")["small"]
        for number in range(_PAIRS):
            step(f"pair {number + 1} of {_PAIRS}")
            _measure_pair(archive, Path(folder) / str(number), bodies, turns, memory)
    out.print(_table(turns, [median(values) for values in zip(*memory, strict=True)]))


def _measure_pair(
    archive: Archive, folder: Path, bodies: list[Path], turns: list[list[_Turn]], memory: list[list[float]]
) -> None:
    """Measure two new servers."""
    with ExitStack() as stack:
        sides = [stack.enter_context(_running(archive, folder / kind, kind)) for kind in ("with", "without")]
        stack.enter_context(_asked(sides[0].server))
        for side in sides:
            closed_loop(url(side.server), bodies, LIGHT_CLIENTS, _WARM_UP_S)
        for number in range(_ROUNDS):
            order = sides if number % 2 else sides[::-1]  # so that neither always follows the other
            found = {side.name: _turn(side, bodies) for side in order}
            turns.append([found[side.name] for side in sides])
        memory.append([memory_mb(side.processes) for side in sides])


@contextmanager
def _running(archive: Archive, state: Path, kind: str) -> Iterator[_Side]:
    """A server as `make serve` starts it, or without all that watches it."""
    state.mkdir(parents=True)
    config = with_absolute_files(read_config(CONFIG_FILE), CONFIG_FILE.parent)
    arguments = []
    if kind == "without":
        config = {key: value for key, value in config.items() if key != EXPORTER}
        arguments = ["--log=off"]
    write_config(config, state / "settings.properties")
    command = [sys.executable, "-m", "scripts.command_line", "serve", f"--config={state / 'settings.properties'}"]
    command += [f"--state={state}", "--ports=free", f"--models={archive.path.name}", f"--store={archive.path.parent}"]
    try:
        subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL)
        if (server := find(state)) is None:
            raise UserError("the server has ended by itself")
        exporters = [each for each in psutil.process_iter(["cmdline"]) if _exports(each, state)]
        yield _Side(kind, server, processes(server.pid) + exporters, exporters)
    finally:
        stop(state)
        beside.stop(state)


def _exports(process: psutil.Process, state: Path) -> bool:
    """Whether the process is the exporter of that state folder."""
    return beside.__name__ in (line := process.info["cmdline"] or []) and str(state.resolve()) in line


@contextmanager
def _asked(server: Server) -> Iterator[None]:
    """Have the metrics asked for as Prometheus does."""
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(_SCRAPE_S):
            requests.get(f"{server.addresses.exporter}/metrics", timeout=_SCRAPE_S).raise_for_status()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        ended.set()
        asking.join()


def _turn(side: _Side, bodies: list[Path]) -> _Turn:
    before = [cpu_seconds(of) for of in (side.processes, side.exporters)]
    load = closed_loop(url(side.server), bodies, LIGHT_CLIENTS, _ROUND_S)
    after = [cpu_seconds(of) for of in (side.processes, side.exporters)]
    return _Turn(load, *((end - begin) / load.answers * 1e3 for begin, end in zip(before, after, strict=True)))


def _table(turns: list[list[_Turn]], memory: list[float]) -> str:
    """Markdown: each figure with, without, and the median of the rounds' ratios with its middle half."""
    figures = {
        "throughput, pictures/s": [[turn.load.rate for turn in both] for both in turns],
        "p50, ms": [[turn.load.p50_ms for turn in both] for both in turns],
        "p99, ms": [[turn.load.p99_ms for turn in both] for both in turns],
        "CPU of a picture, ms": [[turn.cpu_ms for turn in both] for both in turns],
    }
    lines = ["| | with | without | ratio | middle half of the rounds |", "|---|---|---|---|---|"]
    for name, rounds in figures.items():
        ratios = sorted(watched / plain for watched, plain in rounds)
        quarter = len(ratios) // 4
        watched, plain = (median(values) for values in zip(*rounds, strict=True))
        spread = f"{ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f}"
        lines.append(f"| {name} | {watched:.1f} | {plain:.1f} | {median(ratios):.3f} | {spread} |")
    exporter = median(watched.exporter_ms for watched, _ in turns)
    lines.append(f"| of that the exporter's, ms | {exporter:.3f} | | | |")
    lines.append(f"| memory, MiB | {memory[0]:.0f} | {memory[1]:.0f} | {memory[0] / memory[1]:.3f} | |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
