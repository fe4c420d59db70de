"""Sends every hostile picture to the running server, among good ones: `make withstand MODEL=…`.

Each must get its one documented answer, the good ones the same as alone, and the workers must neither die nor grow.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from scripts.archives.store import STORE
from scripts.console import UserError, done, progress, show_table
from scripts.torchserve.chosen import chosen_model
from scripts.torchserve.client import Client
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.server import STATE_FOLDER, Server, running
from stress.questions import Body
from stress.trial import served_archive, trial

_CLIENTS: Final = 16  # two full batches of the recipes, so that one is always waiting while the worker computes
_HOSTILE_PER_GOOD: Final = 3
# Of all workers, from the end of the first round to the end of the last. Chance decides which files are decoded at the
# same time, and a worker keeps the memory of the worst moment: six rounds in one process grew by 142, 133, then 0 MB.
_MOST_GROWTH_MB: Final = 256
_SHOWN: Final = 20  # differences, at most


class Answer(NamedTuple):
    """A server's answer to a body."""

    body: Body
    status: int  # 0: there was no answer
    code: str
    label: str
    probability: float
    seconds: float

    def differs(self) -> str:
        """How the answer differs from the expected one; empty if it does not."""
        body = self.body
        if body.deserves(self.status, self.code, self.label, self.probability):
            return ""
        seen = f"{self.label} {self.probability:.1%}" if self.label else ""
        got, expected = _in_words(self.status, self.code or seen), _in_words(body.status, body.code or body.wanted)
        return f"{body.name}: {got} instead of {expected}"


def _in_words(status: int, what: str) -> str:
    return f"{status} {what}".strip()


class Report(NamedTuple):
    """The outcome of all requests."""

    answers: list[Answer]
    pids: tuple[list[int], list[int]]  # of the workers, before and after
    memory_mb: list[float]  # of the workers, before and after each round

    def differences(self) -> list[str]:
        """All differences from the expected outcome."""
        found = [difference for answer in self.answers if (difference := answer.differs())]
        before, after = self.pids
        if before != after or not before:
            found.append(f"the workers' processes were {before} and are {after}: they must stay the same")
        growth = self.memory_mb[-1] - self.memory_mb[1]
        if growth > _MOST_GROWTH_MB:
            found.append(f"after the first round the workers grew by {growth:.0f} MB more")
        return found


def withstand(server: Server, model: str, hostile: Sequence[Body], friendly: Sequence[Body], rounds: int = 2) -> Report:
    """Send the hostile bodies, with a good one after every few of them, so many at once that batches are mixed.

    Args:
        server: a server on this machine.
        model: the model to ask, in its default version.
        hostile: bodies with the answers that they must get.
        friendly: good pictures with the answers that they must get.
        rounds: how often to send all bodies. The first round shows how much memory they take, the others that the
            memory no longer grows.

    Raises:
        RequestFailedError: the server does not answer good pictures either.
    """
    client = server.client()
    client.predict(friendly[0].content, model)
    mixed = _mix(hostile, friendly)
    pids = _pids(client, model)
    memory = [_memory_mb(pids)]
    answers: list[Answer] = []
    with progress("sending", rounds * len(mixed)) as advance:
        for _ in range(rounds):
            answers += _send(server, model, mixed, advance)
            memory.append(_memory_mb(pids))
    return Report(answers, (pids, _pids(client, model)), memory)


def _mix(hostile: Sequence[Body], friendly: Sequence[Body]) -> list[Body]:
    shuffled = random.Random(0).sample(hostile, len(hostile))  # noqa: S311 - the same order every time
    mixed: list[Body] = []
    for index, body in enumerate(shuffled):
        if index % _HOSTILE_PER_GOOD == 0:
            mixed.append(friendly[index // _HOSTILE_PER_GOOD % len(friendly)])
        mixed.append(body)
    return mixed


def _send(server: Server, model: str, bodies: Sequence[Body], advance: Callable[[int], None]) -> list[Answer]:
    own = threading.local()

    def connect() -> None:
        own.client = server.client()

    def ask(body: Body) -> Answer:
        answer = _ask(own.client, model, body)
        advance(1)
        return answer

    with ThreadPoolExecutor(_CLIENTS, initializer=connect) as pool:
        return list(pool.map(ask, bodies))


def _ask(client: Client, model: str, body: Body) -> Answer:
    sent = time.monotonic()
    try:
        content = client.predict(body.content, model, content_type=body.content_type)
    except RequestFailedError as error:
        return Answer(body, error.status, error.code, "", 0.0, time.monotonic() - sent)
    label, probability = content.get("class") or "", content.get("probability") or 0.0
    return Answer(body, 200, "", label, probability, time.monotonic() - sent)


def _pids(client: Client, model: str) -> list[int]:
    return sorted(pid for version in client.versions(model) for pid in version.pids)


def _memory_mb(pids: Sequence[int]) -> float:
    """The resident memory of processes, in MB; a process that has ended counts as 0."""
    found = 0
    for pid in pids:
        if psutil.pid_exists(pid):
            found += psutil.Process(pid).memory_info().rss
    return found / 1e6


def groups(answers: Sequence[Answer]) -> list[list[str]]:
    """A head, and a line for each group of bodies: number of requests, statuses, and the slowest answer."""
    lines = [["group", "requests", "statuses", "slowest"]]
    for group in dict.fromkeys(_group(answer) for answer in sorted(answers, key=_group)):
        own = [answer for answer in answers if _group(answer) == group]
        statuses = Counter(answer.status for answer in own)
        shown = ", ".join(f"{status} x {count}" for status, count in sorted(statuses.items()))
        lines.append([group, str(len(own)), shown, f"{max(answer.seconds for answer in own):.2f} s"])
    return lines


def _group(answer: Answer) -> str:
    return answer.body.name.partition("/")[0]


def main(
    *,
    model: str | None = None,
    rounds: int = 2,
    golden: Path | None = None,
    state: Path = STATE_FOLDER,
    store: Path = STORE,
) -> None:
    """Send hostile pictures among good ones to the running server: does each get its one answer?

    Args:
        model: the model to ask; without it, the one model that runs or lies in the store.
        rounds: how often to send all bodies.
        golden: folder of good pictures to send; photographs of scikit-image without it.
        state: state folder of the server.
        store: folder of the archives; the server's answers must be those of its archive, which lies there.
    """
    server, name = running(state), chosen_model(model, state, store)
    bodies = trial(served_archive(server.client(), name, store), golden)
    report = withstand(server, name, bodies.hostile, bodies.friendly, rounds)
    show_table(groups(report.answers))
    if found := report.differences():
        more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        raise UserError("\n".join([f"{len(found)} differences from what must be:", *found[:_SHOWN], *more]))
    memory = ", ".join(f"{megabytes:.0f}" for megabytes in report.memory_mb)
    done(f"{len(report.answers)} answers as documented; the same {len(report.pids[0])} workers, with {memory} MB")
