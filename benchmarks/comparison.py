"""Compares this project's server with other servers: each in turn is started, loaded and stopped, in several rounds.

No two servers run at the same time, so that the idle processes of one cost the other nothing.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.load import closed_loop, post
from benchmarks.measure import SETTLED_S, Effort, Say
from benchmarks.peers import PeerName
from benchmarks.peers.server import serving_peer
from benchmarks.result import Contender, Turn, short_name
from benchmarks.running import Running, cpu_seconds, memory_mb, running_ours
from scripts.archives.store import Archive
from scripts.console import UserError

_SAME: Final = (
    0.05  # how far apart two servers' probabilities of a class may be: they resize pictures in different ways
)
_FULL: Final = {"X-Answers": "full"}  # whatever form the recipe gives them


class Side(NamedTuple):
    """A contender, and how its server is started."""

    contender: Contender
    start: Callable[[Path], AbstractContextManager[Running]]  # asked about that picture first


def our_side(archive: Archive) -> Side:
    """This project's server with one archive."""
    model = archive.identity.model
    return Side(Contender(name=short_name(model.runtime, model.precision), ours=True), partial(running_ours, archive))


def peer_side(name: PeerName, subject: Path) -> Side:
    """One of the other servers, with what `subject_of` has written."""
    return Side(Contender(name=name, ours=False), partial(serving_peer, name, subject))


def measure_turns(
    sides: Sequence[Side], bodies: list[Path], clients: int, effort: Effort, say: Say, *, memory: bool
) -> None:
    """Measure every side in every round.

    Args:
        sides: the servers; the first is this project's with the float32 eager archive, which the others serve too.
        bodies: the pictures to send.
        clients: how many closed-loop clients send them.
        effort: how long to measure.
        say: told what begins.
        memory: whether to measure memory too, in the last round, which then waits until it has settled.

    Raises:
        UserError: a server does not start, or answers otherwise than the first one.
    """
    expected: dict[str, Any] | None = None
    for number in range(effort.rounds):
        for contender, start in sides:
            say(f"{contender.name}: round {number + 1} of {effort.rounds}")
            with start(bodies[0]) as running:
                begin = time.monotonic()
                answer = post(running.url, bodies[0], running.field, _FULL).json()
                expected = expected or answer
                if not contender.ours:
                    refuse_other_answer(contender.name, answer, expected)
                contender.turns.append(_turn(running, bodies, clients, effort))
                if memory and number == effort.rounds - 1:
                    time.sleep(max(0.0, begin + SETTLED_S - time.monotonic()))
                    contender.memory_mb = memory_mb(running.processes())


def _turn(running: Running, bodies: list[Path], clients: int, effort: Effort) -> Turn:
    warm_up = closed_loop(running.url, bodies, clients, effort.warm_up_s, running.field)
    before = cpu_seconds(running.processes())
    load = closed_loop(running.url, bodies, clients, effort.seconds_at(warm_up.rate), running.field)
    cpu = cpu_seconds(running.processes()) - before
    if not load.answers:
        raise UserError(f"{running.url} has answered none of its requests; {load.failed} failed")
    return Turn(start_s=running.start_s, load=load, cpu_ms=cpu / load.answers * 1e3)


def refuse_other_answer(name: str, answer: Any, expected: dict[str, Any]) -> None:
    """Refuse a server that answers otherwise than this project's: it would not be the same model.

    Args:
        name: of the server.
        answer: its answer, `{label: probability}`, or a list of one.
        expected: this project's answer.

    Raises:
        UserError: the likeliest class is missing in the answer, or has another probability.
    """
    found: dict[str, float] = answer[0] if isinstance(answer, list) else answer
    label, probability = expected["class"], expected["probability"]
    if label not in found or abs(found[label] - probability) > _SAME:
        raise UserError(f"{name} answers {found} where this project answers {label}, {probability:.3f}")
