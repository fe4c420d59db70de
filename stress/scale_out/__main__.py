"""Tries replicas behind a load balancer on one machine: the cost of routing, and the effects of failures."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import msgspec
from classifier.problems import Problem

from benchmarks.load import Load, closed_loop, require_wrk
from scripts.archives.loaded import loaded
from scripts.archives.store import STORE, Archive, model_in, read_archive_recipe
from scripts.console import UserError, done, show_table, step
from scripts.measuring.labelled import Expected, expected, trial_pictures
from scripts.pages import markdown, replace_block
from stress.scale_out import no_compute
from stress.scale_out.fleet import Fleet, fleet
from stress.scale_out.network import require_namespaces
from stress.scale_out.scenarios import (
    CLIENTS,
    Outcome,
    balance,
    one_cut_off,
    one_killed,
    one_slow,
    rolling_restart,
    rolling_update,
)
from stress.trial import archives_to_try

_ROUTING_REPLICAS: Final = (1, 2, 4)
_REPLICAS: Final = (2, 4)
_ROUNDS: Final = 3
_MANY: Final = 16  # clients of a throughput
_SECONDS: Final = 3


class Routing(msgspec.Struct, frozen=True, kw_only=True):
    """One route to the model that computes nothing, measured in rounds."""

    way: str
    replicas: int
    one: list[Load]  # of one client
    many: list[Load]


class Way(NamedTuple):
    """An address to send pictures to."""

    name: str
    url: str


class Subject(NamedTuple):
    """What is tried: two versions of a model, and a picture with the answer of each version."""

    old: Archive
    new: Archive
    picture: Path
    expected: dict[str, Expected]  # by version


def subject(model: str, store: Path, golden: Path | None = None) -> Subject:
    """Two versions of a model in the store, and the picture that the model is surest of.

    Raises:
        UserError: there are no two versions, one cannot be loaded, or one does not answer the picture.
    """
    new, old = archives_to_try(model, store, 2)
    with loaded(old.path) as classifier:
        picture = trial_pictures(classifier, golden)[0]
    return Subject(old, new, picture, {item.identity.model.version: _answer(item, picture) for item in (old, new)})


def _answer(archive: Archive, picture: Path) -> Expected:
    with loaded(archive.path) as classifier:
        answer = expected(classifier, picture.read_bytes())
    if isinstance(answer, Problem):
        raise UserError(f"{archive.path.name} does not answer {picture}: {answer.detail}")
    return answer


def cost_of_routing(tried: Subject, folder: Path) -> Iterator[Routing]:
    """Measure the model that computes nothing, directly and through the gateway.

    Args:
        tried: whose picture is sent, and whose recipe has the gateway's limits.
        folder: folder for all that is written.

    Raises:
        UserError: a request failed, or wrk is missing.
    """
    store = folder / "store"
    store.mkdir()
    archive, picture = no_compute.build(store), [tried.picture]
    recipe = read_archive_recipe(tried.old.path)
    for number in _ROUTING_REPLICAS:
        step(f"cost of routing, replicas: {number}")
        with fleet(number, archive, recipe, folder / f"routing-{number}", tried.picture) as running:
            ways = [Way("through Envoy", running.url)]
            if number == 1:
                direct = f"http://{running.servers[0].replica}/predictions/{no_compute.NAME}"
                ways.insert(0, Way("direct", direct))
            for way in ways:
                closed_loop(way.url, picture, _MANY, _SECONDS)  # Java compiles while it answers
            rounds = [[_measure(way, picture) for way in ways] for _ in range(_ROUNDS)]
        for index, way in enumerate(ways):
            loads = [measured[index] for measured in rounds]
            if failed := sum(load.failed for pair in loads for load in pair):
                raise UserError(f"{way.name}, {number} replicas: {failed} requests failed")
            yield Routing(
                way=way.name, replicas=number, one=[one for one, _ in loads], many=[many for _, many in loads]
            )


def _measure(way: Way, picture: list[Path]) -> tuple[Load, Load]:
    return closed_loop(way.url, picture, 1, _SECONDS), closed_loop(way.url, picture, _MANY, _SECONDS)


def happenings(tried: Subject, folder: Path) -> Iterator[Outcome]:
    """All scenarios with the real model."""
    recipe = read_archive_recipe(tried.old.path)
    for number in _REPLICAS:
        step(f"{tried.old.path.name}, replicas: {number}")
        with fleet(number, tried.old, recipe, folder / f"replicas-{number}", tried.picture) as running:
            yield from _scenarios(running, tried.old, tried.new)


def _scenarios(running: Fleet, old: Archive, new: Archive) -> Iterator[Outcome]:
    yield balance(running)
    yield one_slow(running)
    yield one_cut_off(running)
    yield one_killed(running, old)
    yield rolling_restart(running, old)
    yield rolling_update(running, old, new)


def routing_cells(rows: list[Routing]) -> list[list[str]]:
    """The table of the cost of routing: a head, and a line for each route."""
    head = ["model without compute", "replicas", "p50 ms, 1 client", "p99 ms, 1 client", f"requests/s, {_MANY} clients"]
    return [head] + [
        [
            row.way,
            str(row.replicas),
            f"{median(load.p50_ms for load in row.one):.2f}",
            f"{median(load.p99_ms for load in row.one):.2f}",
            f"{median(load.rate for load in row.many):.0f}",
        ]
        for row in rows
    ]


def outcome_cells(outcomes: list[Outcome]) -> list[list[str]]:
    """The table of the scenarios: a head, and a line for each."""
    head = ["scenario", "replicas", "requests", "lost", "retries", "requests/s", "p50 ms", "slowest ms", "notes"]
    return [head] + [
        [
            row.scenario,
            str(row.replicas),
            str(len(row.answers)),
            str(len(row.lost)),
            str(row.retries),
            f"{len(row.answers) / row.seconds:.0f}",
            f"{median(answer.seconds for answer in row.answers) * 1e3:.0f}",
            f"{max(answer.seconds for answer in row.answers) * 1e3:.0f}",
            row.note,
        ]
        for row in outcomes
    ]


def main(
    *, model: str | None = None, golden: Path | None = None, page: Path | None = None, store: Path = STORE
) -> None:
    """Try several servers behind Envoy on one machine: the cost of routing, failures, a rolling update.

    Args:
        model: model of which the store has two versions; without it, the one model that lies in the store.
        golden: folder of pictures, of which that one is sent that the model is surest of; scikit-image's without it.
        page: page of the documentation to write the tables into.
        store: folder of the archives.
    """
    require_namespaces()
    require_wrk()
    tried = subject(model or model_in(store), store, golden)
    with tempfile.TemporaryDirectory(prefix="scale-out-") as folder:
        routing = routing_cells(list(cost_of_routing(tried, Path(folder))))
        show_table(routing)
        outcomes = []
        for outcome in happenings(tried, Path(folder)):
            step(f"{outcome.scenario}: {len(outcome.lost)} of {len(outcome.answers)} requests lost; {outcome.note}")
            outcomes.append(outcome)
    lines = outcome_cells(outcomes)
    show_table(lines)
    if page:
        replace_block(page, "scale-out", f"\n{markdown(routing)}\n\n{markdown(lines)}\n")
    if lost := [answer for outcome in outcomes for answer in outcome.lost]:
        raise UserError(f"{len(lost)} requests lost; the first: {lost[0]}")
    if wrong := [answer for outcome in outcomes for answer in outcome.wrong(tried.expected)]:
        raise UserError(f"{len(wrong)} answers are not those of the version that gave them; the first: {wrong[0]}")
    done(f"none of {sum(len(outcome.answers) for outcome in outcomes)} requests with {CLIENTS} clients was lost")
