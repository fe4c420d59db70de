"""Tries replicas behind a load balancer on one machine: the cost of routing, and the effects of failures."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import msgspec
from classifier.recipe import Recipe, read_recipe

from benchmarks.load import Load, closed_loop, require_wrk
from scripts.archives.store import STORE, Archive, find_archive
from scripts.building.golden import photograph
from scripts.building.make import ensure
from scripts.console import UserError, done, show_table, step
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

MODEL: Final = "efficientnet_lite0"
# OpenVINO's idle threads sleep. Those of other runtimes wait busily, so replicas that share cores would slow each
# other, as they would not on machines of their own.
OLD, NEW = f"{MODEL}-openvino", f"{MODEL}-openvino-int8"

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


def cost_of_routing(folder: Path) -> Iterator[Routing]:
    """Measure the model that computes nothing, directly and through the gateway.

    Raises:
        UserError: a request failed, or wrk is missing.
    """
    store = folder / "store"
    store.mkdir()
    archive, picture = no_compute.build(store), [photograph("chelsea.png")]
    for number in _ROUTING_REPLICAS:
        step(f"cost of routing, replicas: {number}")
        with fleet(number, archive, _recipe(), folder / f"routing-{number}") as running:
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


def happenings(old: Archive, new: Archive, folder: Path) -> Iterator[Outcome]:
    """All scenarios with the real model."""
    for number in _REPLICAS:
        step(f"{old.path.name}, replicas: {number}")
        with fleet(number, old, _recipe(), folder / f"replicas-{number}") as running:
            yield from _scenarios(running, old, new)


def _scenarios(running: Fleet, old: Archive, new: Archive) -> Iterator[Outcome]:
    yield balance(running)
    yield one_slow(running)
    yield one_cut_off(running)
    yield one_killed(running, old)
    yield rolling_restart(running, old)
    yield rolling_update(running, old, new)


def _recipe() -> Recipe:
    return read_recipe(Path("recipes", f"{MODEL}.yaml"))


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


def main(*, page: Path | None = None, store: Path = STORE) -> None:
    """Try several servers behind Envoy on one machine: the cost of routing, failures, a rolling update.

    Args:
        page: page of the documentation to write the tables into.
        store: folder of the archives.
    """
    require_namespaces()
    require_wrk()
    ensure("efficientnet_lite0", ("openvino", "float32"), ("openvino", "int8"), store=store)
    old, new = find_archive(OLD, store), find_archive(NEW, store)
    with tempfile.TemporaryDirectory(prefix="scale-out-") as folder:
        routing = routing_cells(list(cost_of_routing(Path(folder))))
        show_table(routing)
        outcomes = []
        for outcome in happenings(old, new, Path(folder)):
            step(f"{outcome.scenario}: {len(outcome.lost)} of {len(outcome.answers)} requests lost; {outcome.note}")
            outcomes.append(outcome)
    lines = outcome_cells(outcomes)
    show_table(lines)
    if page:
        replace_block(page, "scale-out", f"\n{markdown(routing)}\n\n{markdown(lines)}\n")
    if lost := [answer for outcome in outcomes for answer in outcome.lost]:
        raise UserError(f"{len(lost)} requests lost; the first: {lost[0]}")
    done(f"none of {sum(len(outcome.answers) for outcome in outcomes)} requests with {CLIENTS} clients was lost")
