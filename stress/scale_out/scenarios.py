"""The events that may happen to replicas behind a gateway, each under load from clients that record every outcome."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import msgspec

from gateway.endpoints import Replica
from scripts.archives.store import Archive
from scripts.measuring.labelled import Expected
from stress.clients import Answer, ClosedLoop, clients
from stress.scale_out.fleet import Fleet, TorchServe

CLIENTS: Final = 8
SLOW_LINE: Final = "4mbit"

_BEFORE_S, _AFTER_S = 2.0, 2.0  # of load before and after the event
_BALANCE_S: Final = 8.0
_WATCH_S: Final = 8.0  # outlasts the gateway's health checks and its connections to a lost machine
_POLL_S: Final = 0.02

Change = Callable[[TorchServe], None]


class Outcome(msgspec.Struct, kw_only=True):
    """What clients saw of an event."""

    scenario: str
    replicas: int
    answers: list[Answer] = []
    retries: int = 0  # of the gateway
    seconds: float = 0
    note: str = ""
    before: set[str] = set()  # versions that answered before a rolling update
    after: set[str] = set()  # versions that answered after it

    @property
    def lost(self) -> list[Answer]:
        """Requests without a classification."""
        return [answer for answer in self.answers if answer.status != 200]

    @property
    def versions(self) -> list[str]:
        """The versions that answered, in the order of the requests."""
        return [answer.version for answer in self.answers if answer.status == 200]

    def wrong(self, expected: Mapping[str, Expected]) -> list[Answer]:
        """Classifications that are not those which their versions give the picture; `expected` is by version."""
        return [
            answer
            for answer in self.answers
            if answer.status == 200 and not expected[answer.version].fits(answer.label, answer.probability)
        ]


@contextmanager
def _load(fleet: Fleet, outcome: Outcome) -> Iterator[ClosedLoop]:
    """Run clients before, during and after an event; then the outcome is complete."""
    before, begin = fleet.gateway.retries(), time.monotonic()
    with clients(fleet.url, fleet.questions, CLIENTS) as loop:
        time.sleep(_BEFORE_S)
        yield loop
        time.sleep(_AFTER_S)
    outcome.seconds = time.monotonic() - begin
    outcome.answers = loop.answers()
    outcome.retries = fleet.gateway.retries() - before


def _begin(scenario: str, fleet: Fleet) -> Outcome:
    return Outcome(scenario=scenario, replicas=len(fleet.servers))


def balance(fleet: Fleet) -> Outcome:
    """Nothing happens."""
    outcome = _begin("undisturbed", fleet)
    before = _sent(fleet)
    with _load(fleet, outcome):
        time.sleep(_BALANCE_S)
    outcome.note = _shares(before, _sent(fleet))
    return outcome


def one_slow(fleet: Fleet) -> Outcome:
    """The first replica is behind a slow line."""
    outcome = _begin(f"one replica behind {SLOW_LINE.removesuffix('mbit')} Mbit/s", fleet)
    with fleet.servers[0].machine.behind_a_slow_line(SLOW_LINE):
        before = _sent(fleet)
        with _load(fleet, outcome):
            time.sleep(_BALANCE_S)
        outcome.note = _shares(before, _sent(fleet))
    return outcome


def one_killed(fleet: Fleet, archive: Archive) -> Outcome:
    """The first replica is killed; afterwards it is started again, with that archive."""
    outcome = _begin("one replica killed", fleet)
    victim = fleet.servers[0]
    with _load(fleet, outcome), _watched(fleet, victim.replica, outcome) as begin:
        begin(victim.kill())
    victim.start(archive)
    fleet.gateway.wait_healthy([victim.replica])
    return outcome


def one_cut_off(fleet: Fleet) -> Outcome:
    """The first replica's cable is pulled; afterwards it is put back."""
    outcome = _begin("one replica cut off", fleet)
    victim = fleet.servers[0]
    try:
        with _load(fleet, outcome), _watched(fleet, victim.replica, outcome) as begin:
            begin(time.monotonic())
            victim.machine.unplug()
    finally:
        victim.machine.plug_in()
    fleet.gateway.wait_healthy([victim.replica])
    return outcome


def rolling_update(fleet: Fleet, old: Archive, new: Archive) -> Outcome:
    """Every replica in turn is drained, gets a new version instead of the old one, and is restored."""
    outcome = _begin("rolling update", fleet)
    return _rolling(fleet, outcome, lambda server: server.update(old, new))


def rolling_restart(fleet: Fleet, archive: Archive) -> Outcome:
    """Every replica in turn is drained, stopped, started and restored, as for an update of TorchServe or the system."""

    def restart(server: TorchServe) -> None:
        server.stop()
        server.start(archive)

    return _rolling(fleet, _begin("rolling restart", fleet), restart)


def _rolling(fleet: Fleet, outcome: Outcome, change: Change) -> Outcome:
    with _load(fleet, outcome) as loop:
        begin = time.monotonic()
        for server in fleet.servers:
            fleet.gateway.drain(server.replica)
            change(server)
            fleet.gateway.restore(server.replica)
        end = time.monotonic()
    outcome.before = {answer.version for answer in loop.answers() if answer.sent + answer.seconds < begin}
    outcome.after = {answer.version for answer in loop.answers(since=end)}
    outcome.note = f"{end - begin:.0f} s; {' and '.join(outcome.before)} before, {' and '.join(outcome.after)} after"
    return outcome


def _sent(fleet: Fleet) -> dict[Replica, int]:
    return {replica: host.sent for replica, host in fleet.gateway.hosts().items()}


def _shares(before: dict[Replica, int], after: dict[Replica, int]) -> str:
    more = [after[replica] - before[replica] for replica in sorted(after)]
    return "shares " + " · ".join(f"{number / sum(more):.0%}" for number in more)


@contextmanager
def _watched(fleet: Fleet, victim: Replica, outcome: Outcome) -> Iterator[Callable[[float], None]]:
    """Record when the gateway last tried a replica. Call the yielded function with the moment to count from."""
    begin: list[float] = []
    tried: list[float] = []
    end = threading.Event()

    def watch() -> None:
        sent = _sent(fleet)[victim]
        while not end.wait(_POLL_S):
            if (now := _sent(fleet)[victim]) != sent:
                tried.append(time.monotonic())
                sent = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield begin.append
        time.sleep(_WATCH_S)
    finally:
        end.set()
        watcher.join()
    last = max([moment - begin[0] for moment in tried if moment > begin[0]], default=0)
    outcome.note = f"last tried after {last:.2f} s"
