"""Causes faults in a real TorchServe under load: what clients see of each, and how long the recovery takes."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import yaml

from benchmarks.result import this_machine
from scripts.archives.store import STORE, Archive, find_archive
from scripts.building.build import build
from scripts.building.make import ensure
from scripts.building.options import Options
from scripts.console import UserError, done, out, show_table, step
from scripts.pages import markdown, replace_block
from stress.faults import scenarios
from stress.faults.injection import memory_groups, small_disk
from stress.faults.stand import CLIENTS, Run, Stand

MODEL: Final = "efficientnet_lite0"
SERVED, OTHER = f"{MODEL}-openvino-int8", f"{MODEL}-openvino"

_SMALL_DISK: Final = 4 << 20  # bytes
_SHORT_TIMEOUT_S: Final = 5  # of an answer; the recipes' 120 s would take ten minutes for five hangs

Fault = Callable[[Stand], Run]


def impatient(folder: Path, recipes: Path = Path("recipes")) -> Archive:
    """Build an archive with a short response timeout; in float32, because that needs no calibration."""
    recipe = yaml.safe_load((recipes / f"{MODEL}.yaml").read_text())
    recipe["serving"] |= {"response_timeout_s": _SHORT_TIMEOUT_S}
    path = folder / "impatient.yaml"
    path.write_text(yaml.safe_dump(recipe))
    build(Options(recipe=path, runtime="openvino", store=folder / "store"))
    return find_archive(OTHER, folder / "store")


def all_faults(repeat: int, served: Archive, other: Archive, folder: Path) -> Iterator[list[Run]]:
    """Run every fault `repeat` times; the faults that leave a server usable share one."""
    shared: list[Fault] = [
        scenarios.one_of_two_workers_killed,
        scenarios.the_only_worker_killed,
        scenarios.allocations_fail,
        *([scenarios.memory_limit_exceeded] if memory_groups() else []),
        scenarios.queue_full,
        scenarios.archive_deleted,
        partial(scenarios.archive_replaced, other=other.path),
        scenarios.stopped,
        scenarios.front_end_killed,
    ]
    if not memory_groups():
        step("memory control groups cannot be made here; their fault is left out")
    yield from _repeated(repeat, shared, Stand(served, folder / "shared"))
    yield from _repeated(repeat, [scenarios.worker_hangs], Stand(impatient(folder), folder / "impatient"))
    if os.geteuid() != 0:
        step("only root can mount a small disk; its fault is left out")
        return
    stand = Stand(served, folder / "small-disk")
    with small_disk(stand.state / "logs", _SMALL_DISK):
        yield from _repeated(repeat, [scenarios.disk_full], stand)


def _repeated(repeat: int, faults: Iterable[Fault], stand: Stand) -> Iterator[list[Run]]:
    with stand.running():
        for fault in faults:
            runs = []
            for number in range(1, repeat + 1):
                with out.status(f"{getattr(fault, '__name__', 'archive_replaced')}: {number} of {repeat}"):
                    runs.append(fault(stand))
            yield runs


def heading(faults: Sequence[Sequence[Run]]) -> str:
    """The day and the machine, on which the time of recovery depends."""
    machine, requests = this_machine(), sum(len(run.answers) for runs in faults for run in runs)
    day = date.today().isoformat()
    return f"{day}, {machine.cores} cores of {machine.processor}, {requests} requests in all."


def cells(faults: Sequence[Sequence[Run]]) -> list[list[str]]:
    """The table of the faults: a head, and a line for each. Pairs are median and worst."""
    head = ["fault", "runs", "requests", "refused", "connection cut", "no connection", "wrong answers"]
    head += ["failures, s after", "recovered, s after", "`/ping` meanwhile", "notes"]
    return [head] + [_line(runs) for runs in faults]


def _line(runs: Sequence[Run]) -> list[str]:
    spans = [run.failed_after_s for run in runs if run.failed_after_s]
    first, last = [span[0] for span in spans], [span[1] for span in spans]
    return [
        runs[0].fault,
        str(len(runs)),
        str(round(median(len(run.answers) for run in runs))),
        _refused(runs),
        _two([run.number(0) for run in runs], "0"),
        _two([run.number(-1) for run in runs], "0"),
        str(sum(answer.wrong for run in runs for answer in run.answers)),
        f"{median(first):.2f} to {median(last):.2f} ({max(last):.2f})" if spans else "none",
        _two([run.healthy_s for run in runs], "2"),
        " / ".join(sorted(set().union(*(run.pings for run in runs)))),
        runs[-1].note,
    ]


def _refused(runs: Sequence[Run]) -> str:
    kinds = sorted({kind for run in runs for kind in run.refused})
    return "; ".join(f"{kind}: {_two([run.refused[kind] for run in runs], '0')}" for kind in kinds) or "0"


def _two(figures: Sequence[float], digits: str) -> str:
    return f"{median(figures):.{digits}f} ({max(figures):.{digits}f})"


def main(*, repeat: int = 5, page: Path | None = None, store: Path = STORE) -> None:
    """Measure what clients see of killed, hung and starved servers, full disks and queues.

    Args:
        repeat: how often each fault happens.
        page: page of the documentation to write the table into.
        store: folder of the archives.
    """
    ensure("efficientnet_lite0", ("openvino", "float32"), ("openvino", "int8"), store=store)
    served, other = find_archive(SERVED, store), find_archive(OTHER, store)
    faults = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for runs in all_faults(repeat, served, other, Path(folder)):
            failed = sum(len(fault.failed) for fault in runs)
            step(f"{runs[0].fault}: {failed} of {sum(len(fault.answers) for fault in runs)} failed; {runs[-1].note}")
            faults.append(runs)
    lines = cells(faults)
    show_table(lines)
    if page:
        replace_block(page, "faults", f"\n{heading(faults)}\n\n{markdown(lines)}\n")
    answers = [answer for runs in faults for run in runs for answer in run.answers]
    if wrong := [answer for answer in answers if answer.wrong]:
        raise UserError(f"{len(wrong)} requests got the result of another request; the first: {wrong[0]}")
    done(f"none of {len(answers)} requests with {CLIENTS} clients got the result of another request")
