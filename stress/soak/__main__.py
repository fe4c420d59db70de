"""Loads a server at 80 % of its capacity for a long time, with good and bad pictures, and checks that nothing grows."""

import random
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.result import this_machine
from scripts.archives.store import STORE, Archive, find_archive, model_in
from scripts.console import UserError, done, progress, show_table, step
from scripts.pages import markdown, replace_block
from scripts.torchserve.config import CONFIG_FILE, read_config, with_free_ports
from scripts.torchserve.server import Server, serving
from stress.clients import clients
from stress.questions import Body
from stress.soak.samples import Sample, sampling
from stress.soak.statistics import (
    WINDOW_S,
    Soak,
    Verdict,
    Window,
    front_end_trend,
    memory_trend,
    verdicts,
    windows,
)
from stress.trial import Trial, archives_to_try, trial

_SHARE: Final = 0.8  # of the capacity
_CAPACITY_S: Final = 15.0
_SETTLE_S: Final = 5.0  # before that, for new connections and cold caches
_CAPACITY_CLIENTS: Final = 32
_CLIENTS: Final = 64  # of the paced load; enough that one is free whenever a request is due
_LARGEST: Final = 1_000_000  # bytes of a body; some in the corpus have ten times that, and would determine the capacity
_SLOW: Final = ("bomb/", "largest/", "metadata/", "shape/")  # slow bodies, which would determine it too
_LINES: Final = 12  # of the table over time


def mixture(photographs: Sequence[Body], hostile: Sequence[Body]) -> list[Body]:
    """As many good photographs as hostile bodies, in random order; without the large and slow ones."""
    hostile = [body for body in hostile if len(body.content) <= _LARGEST and not body.name.startswith(_SLOW)]
    mixed = hostile + [photographs[index % len(photographs)] for index in range(len(hostile))]
    random.Random(0).shuffle(mixed)  # noqa: S311 - reproducible
    return mixed


def soak(server: Server, state: Path, model: str, bodies: Trial, minutes: float) -> Soak:
    """Measure the capacity with those bodies, then load the server at most of it.

    Raises:
        UserError: no request is answered as the contract says.
    """
    url = f"{server.addresses.inference}/predictions/{model}"
    questions = mixture(bodies.friendly, bodies.hostile)
    capacity = _capacity(url, questions)
    rate = _SHARE * capacity
    step(f"capacity {capacity:.0f} requests a second; {rate:.0f} for {minutes:g} minutes")
    with sampling(server, state) as samples:
        begin = time.monotonic()
        with clients(url, questions, _CLIENTS, rate=rate) as loop, progress("seconds", round(minutes * 60)) as advance:
            while (left := begin + minutes * 60 - time.monotonic()) > 0:
                time.sleep(min(1.0, left))
                advance(1)
    return Soak(
        minutes=minutes, capacity=capacity, rate=rate, begin=begin, answers=loop.answers(), samples=list(samples)
    )


def _capacity(url: str, questions: Sequence[Body]) -> float:
    """Measure the requests a second of clients that never pause."""
    step(f"measuring the capacity for {_SETTLE_S + _CAPACITY_S:.0f} s")
    with clients(url, questions, _CAPACITY_CLIENTS) as loop:
        time.sleep(_SETTLE_S)
        begin = time.monotonic()
        time.sleep(_CAPACITY_S)
        end = time.monotonic()
    answers = [answer for answer in loop.answers() if begin <= answer.sent + answer.seconds < end]
    if not any(answer.kept for answer in answers):
        raise UserError(f"not one of {len(answers)} requests was answered as the contract says; see `make logs`")
    return len(answers) / (end - begin)


def soak_archive(archive: Archive, minutes: float, golden: Path | None = None) -> Soak:
    """Serve an archive as in production, on free ports, and soak the server with good pictures and hostile ones."""
    bodies = trial(archive, golden)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        state = Path(folder) / "state"
        config = with_free_ports(read_config(CONFIG_FILE)) | {"model_store": str(archive.path.parent.resolve())}
        step(f"serving {archive.path.name}")
        with serving(config, [archive], state) as server:
            return soak(server, state, archive.identity.model.name, bodies, minutes)


def report(measured: Soak, archive: Archive) -> list[str]:
    """The conditions and results, in a few sentences."""
    machine, worker, java = this_machine(), memory_trend(measured), front_end_trend(measured)
    logged = measured.samples[-1].log_bytes - measured.samples[0].log_bytes
    good_answers = sum(answer.status == 200 for answer in measured.answers)
    return [
        f"{archive.path.name}, {date.today().isoformat()}, {machine.cores} cores of {machine.processor}: capacity "
        f"{measured.capacity:.0f} requests/s, load {measured.rate:.0f} requests/s for {measured.minutes:g} minutes, "
        f"{len(measured.answers)} requests in all, {good_answers} of them answered 200.",
        f"After a warm-up of {measured.warm_up_s:.0f} s the workers' memory changed by {worker.slope:+.1f} ± "
        f"{worker.error:.1f} MB an hour, the front end's by {java.slope:+.1f} ± {java.error:.1f}. "
        f"Each request added {logged / max(1, len(measured.answers)):.0f} bytes to the logs.",
    ]


def verdict_cells(found: Sequence[Verdict]) -> list[list[str]]:
    """The table of the verdicts: a head, and a line for each."""
    return [["requirement", "measured", "met"]] + [
        [verdict.what, verdict.measured, "yes" if verdict.good else "**no**"] for verdict in found
    ]


def time_cells(measured: Soak) -> list[list[str]]:
    """The table of the course over time, with at most a dozen lines."""
    rows = windows(measured.answers, measured.begin)
    step_s = WINDOW_S * -(-len(rows) // _LINES)
    head = ["minute", "requests/s", "p50 ms", "p99 ms", "workers MB", "front end MB", "descriptors", "temporary files"]
    lines = [head]
    begin = 0.0
    while begin + step_s <= measured.minutes * 60:
        inside = [row for row in rows if begin <= row.at_s < begin + step_s]
        seen = [sample for sample in measured.samples if begin <= sample.at_s < begin + step_s]
        begin += step_s
        if inside and seen:
            lines.append([f"{begin / 60:.1f}", *_middle(inside, step_s), *_held(seen[-1])])
    return lines


def _middle(inside: Sequence[Window], seconds: float) -> list[str]:
    return [
        f"{sum(window.answers for window in inside) / seconds:.0f}",
        f"{median(window.p50_ms for window in inside):.0f}",
        f"{median(window.p99_ms for window in inside):.0f}",
    ]


def _held(sample: Sample) -> list[str]:
    return [
        f"{sample.memory / 1e6:.0f}",
        f"{sample.front_end / 1e6:.0f}",
        str(sample.descriptors),
        str(sample.temporary_files),
    ]


def plot(measured: Soak, path: Path) -> None:
    """Memory, latency and descriptors over time, as a PNG."""
    minutes = [sample.at_s / 60 for sample in measured.samples]
    rows = windows(measured.answers, measured.begin)
    from matplotlib.figure import Figure  # an optional package

    figure = Figure(figsize=(8, 8), layout="constrained")
    memory, latency, held = figure.subplots(3, sharex=True)
    memory.plot(minutes, [sample.memory / 1e6 for sample in measured.samples], label="workers, PSS")
    memory.plot(minutes, [sample.front_end / 1e6 for sample in measured.samples], label="front end, RSS")
    memory.axvspan(0, measured.warm_up_s / 60, color="#eeeeee", label="warm-up")
    memory.set(ylabel="MB", ylim=(0, None))
    latency.plot([row.at_s / 60 for row in rows], [row.p50_ms for row in rows], label="p50")
    latency.plot([row.at_s / 60 for row in rows], [row.p99_ms for row in rows], label="p99")
    latency.set(ylabel="ms", ylim=(0, None))
    held.plot(minutes, [sample.descriptors for sample in measured.samples], label="descriptors")
    held.plot(minutes, [sample.temporary_files for sample in measured.samples], label="temporary files")
    held.set(xlabel="minutes", ylim=(0, None))
    for axes in (memory, latency, held):
        axes.legend(loc="best")
    figure.savefig(path, dpi=120)


def main(
    *,
    minutes: float = 30,
    archive: str | None = None,
    model: str | None = None,
    golden: Path | None = None,
    page: Path | None = None,
    store: Path = STORE,
) -> None:
    """Load a server at 80 % of its capacity for a long time, and see if anything grows.

    Args:
        minutes: how long to load the server.
        archive: archive to serve; without it, one of the model's: in OpenVINO and int8 if there is such a one.
        model: name of the model; without it, the one model that lies in the store.
        golden: folder of good pictures to send; photographs of scikit-image without it.
        page: page of the documentation to write the tables into; the plot lies beside it.
        store: folder of the archives.
    """
    if archive is None:
        (served,) = archives_to_try(model or model_in(store), store, 1)
    else:
        served = find_archive(archive, store)
    measured = soak_archive(served, minutes, golden)
    sentences, found = report(measured, served), verdicts(measured)
    plotted = page.with_suffix(".png") if page else Path("soak.png")
    plot(measured, plotted)
    for sentence in sentences:
        step(sentence)
    tables = [verdict_cells(found), time_cells(measured)]
    for table in tables:
        show_table(table)
    if page:
        replace_block(page, "soak", "\n" + "\n\n".join([*sentences, *map(markdown, tables)]) + "\n")
    if bad := [verdict for verdict in found if not verdict.good]:
        raise UserError("; ".join(f"{verdict.what}: {verdict.measured}" for verdict in bad))
    done(f"met every requirement; see {plotted}")
