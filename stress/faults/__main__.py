"""Causes faults in a real TorchServe under load: what clients see of each, and how long the recovery takes."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import yaml
from classifier.identity import RECIPE_FILE

from benchmarks.result import this_machine
from scripts.archives.format import format_of
from scripts.archives.loaded import unpacked
from scripts.archives.store import STORE, Archive, model_in
from scripts.building.overlay import settle
from scripts.building.packing import write_archive
from scripts.console import UserError, done, out, show_table, step
from scripts.pages import markdown, replace_block
from stress.faults import scenarios
from stress.faults.injection import memory_groups, small_disk
from stress.faults.stand import CLIENTS, Run, Stand
from stress.trial import archives_to_try

_SMALL_DISK: Final = 4 << 20  # bytes
_SHORT_TIMEOUT_S: Final = 5  # of an answer; the recipes' 120 s would take ten minutes for five hangs

Fault = Callable[[Stand], Run]


def impatient(archive: Archive, folder: Path) -> Archive:
    """A copy of an archive with a short response timeout, in a store of its own in that folder."""
    store, content = folder / "store", folder / "content"
    store.mkdir(parents=True)
    with unpacked(archive.path) as source:
        shutil.copytree(source, content, ignore=shutil.ignore_patterns("__pycache__"))
    recipe = yaml.safe_load((content / RECIPE_FILE).read_text())
    recipe.setdefault("serving", {})["response_timeout_s"] = _SHORT_TIMEOUT_S
    (content / RECIPE_FILE).write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
    settle(content)
    path = store / archive.path.name
    write_archive(content, format_of(path), path, archive.identity.model.name)
    shutil.rmtree(content)
    return Archive(path, archive.identity)


def all_faults(
    repeat: int, served: Archive, other: Archive, folder: Path, golden: Path | None = None
) -> Iterator[list[Run]]:
    """Run every fault `repeat` times; the faults that leave a server usable share one.

    Args:
        repeat: how often.
        served: the archive to serve.
        other: another version of the same model.
        folder: folder for all that the servers write.
        golden: folder of the pictures that clients send.
    """
    shared: list[Fault] = [
        scenarios.one_of_two_workers_killed,
        scenarios.the_only_worker_killed,
        *_memory_faults(served),
        scenarios.queue_full,
        scenarios.archive_deleted,
        partial(scenarios.archive_replaced, other=other.path),
        scenarios.stopped,
        scenarios.front_end_killed,
    ]
    yield from _repeated(repeat, shared, Stand(served, folder / "shared", golden))
    hurried = Stand(impatient(served, folder / "hurried"), folder / "impatient", golden)
    yield from _repeated(repeat, [scenarios.worker_hangs], hurried)
    if os.geteuid() != 0:
        step("only root can mount a small disk; its fault is left out")
        return
    stand = Stand(served, folder / "small-disk", golden)
    with small_disk(stand.state / "logs", _SMALL_DISK):
        yield from _repeated(repeat, [scenarios.disk_full], stand)


def _memory_faults(served: Archive) -> list[Fault]:
    if not scenarios.allows_huge_pictures(served):
        step("the recipe allows only small pictures, which exhaust no memory; these two faults are left out")
        return []
    if not memory_groups():
        step("memory control groups cannot be made here; their fault is left out")
        return [scenarios.allocations_fail]
    return [scenarios.allocations_fail, scenarios.memory_limit_exceeded]


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


def main(
    *,
    repeat: int = 5,
    model: str | None = None,
    golden: Path | None = None,
    page: Path | None = None,
    store: Path = STORE,
) -> None:
    """Measure what clients see of killed, hung and starved servers, full disks and queues.

    Args:
        repeat: how often each fault happens.
        model: model of which the store has two versions; without it, the one model that lies in the store.
        golden: folder of the pictures to send; photographs of scikit-image without it.
        page: page of the documentation to write the table into.
        store: folder of the archives.
    """
    served, other = archives_to_try(model or model_in(store), store, 2)
    step(f"serving {served.path.name}; its other version is {other.path.name}")
    faults = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for runs in all_faults(repeat, served, other, Path(folder), golden):
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
