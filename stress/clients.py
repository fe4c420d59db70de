"""Clients that each wait for an answer before they send the next picture, and record every outcome.

With a rate they send at random times instead, that many requests a second, as long as a client is free.
"""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import requests
from urllib3.exceptions import NewConnectionError

from stress.questions import Body

_TIMEOUT_S: Final = 160  # outlasts the gateway's


class Answer(NamedTuple):
    """The outcome of one request."""

    sent: float  # time.monotonic(); with a rate, when it was due
    seconds: float
    status: int  # 0: there was no answer; -1: the connection was refused
    version: str  # of the model that answered
    label: str  # the likeliest class, or the reason of a failure
    expected: str = ""  # the class and its probability, where they are known
    kept: bool = True  # whether it is the answer that the request must get
    probability: float = 0.0  # of the likeliest class

    @property
    def wrong(self) -> bool:
        """Whether it is a classification, but of another picture."""
        return self.status == 200 and bool(self.expected) and not self.kept


class ClosedLoop:
    """The clients' records, which grow while `clients` runs. They have no request that is not answered yet."""

    def __init__(self) -> None:
        self._notes: list[Answer] = []  # appending is atomic

    def write_down(self, answer: Answer) -> None:
        """Add an outcome."""
        self._notes.append(answer)

    def answers(self, since: float = 0) -> list[Answer]:
        """All outcomes of requests that were sent after a moment, in the order in which they were sent."""
        return sorted((answer for answer in self._notes.copy() if answer.sent >= since), key=lambda answer: answer.sent)


@contextmanager
def clients(
    url: str, questions: Sequence[Body], number: int, pause_s: float = 0, rate: float | None = None
) -> Iterator[ClosedLoop]:
    """Run clients of a model; at the end each waits for its last answer. They never retry a request.

    Args:
        url: the address to send to.
        questions: each client sends all of them, again and again, each time in another order.
        number: how many clients.
        pause_s: how long each waits after a request that failed, as a well-behaved client does.
        rate: requests a second of a Poisson process; the time of an answer counts from when its request was due.
    """
    loop, end = ClosedLoop(), threading.Event()
    turns = _Turns(rate)
    threads = [
        threading.Thread(target=_client, args=(url, questions, index, pause_s, loop, end, turns))
        for index in range(number)
    ]
    for thread in threads:
        thread.start()
    try:
        yield loop
    finally:
        end.set()
        for thread in threads:
            thread.join()


class _Turns:
    """The times at which requests are due; shared by all clients."""

    def __init__(self, rate: float | None) -> None:
        self._rate, self._lock, self._random = rate, threading.Lock(), random.Random(0)  # noqa: S311 - reproducible
        self._due = time.monotonic()

    def wait(self, end: threading.Event) -> float:
        """Wait until the next request is due, or for the end; returns when it was due."""
        if self._rate is None:
            return time.monotonic()
        with self._lock:
            self._due += self._random.expovariate(self._rate)
            due = self._due
        end.wait(max(0, due - time.monotonic()))
        return due


def shuffled(questions: Sequence[Body], seed: int) -> Iterator[Body]:
    """All questions in random order, for ever, in another order each time.

    If all clients went through the same list at the same pace, they would all reach its heavy questions together.
    """
    order = random.Random(seed)  # noqa: S311 - reproducible
    while True:
        yield from order.sample(questions, len(questions))


def _client(
    url: str,
    questions: Sequence[Body],
    seed: int,
    pause_s: float,
    loop: ClosedLoop,
    end: threading.Event,
    turns: _Turns,
) -> None:
    with requests.Session() as session:
        session.trust_env = False  # the server is on this machine, never behind a proxy
        for question in shuffled(questions, seed):
            due = turns.wait(end)
            if end.is_set():
                return
            answer = _ask(session, url, question, due)
            loop.write_down(answer)
            if not answer.kept and pause_s:
                end.wait(pause_s)


def _ask(session: requests.Session, url: str, question: Body, sent: float) -> Answer:
    headers = {"Content-Type": question.content_type} if question.content_type else {}
    try:
        response = session.post(url, data=question.content, headers=headers, timeout=_TIMEOUT_S)
        content = _content(response)
    except requests.RequestException as error:
        return Answer(sent, time.monotonic() - sent, -1 if _refused(error) else 0, "", str(error), kept=False)
    seconds, code = time.monotonic() - sent, content.get("code", "")
    label = content.get("class") or "" if response.ok else _reason(response, content)
    probability = content.get("probability") or 0.0
    kept = question.deserves(response.status_code, code, label, probability)
    version = str(content["model"]["version"]) if response.ok else ""
    return Answer(sent, seconds, response.status_code, version, label, question.wanted, kept, probability)


def _content(response: requests.Response) -> dict[str, Any]:
    """The JSON object of an answer; empty if an error answer has none."""
    try:
        content: dict[str, Any] = response.json()
    except requests.JSONDecodeError:
        if response.ok:
            raise
        return {}
    return content


def _reason(response: requests.Response, content: dict[str, Any]) -> str:
    """The reason that an error answer gives: the handler's code, or the front end's message."""
    code = content.get("code")
    return code if isinstance(code, str) else str(content.get("message", response.text[:200])).strip()


def _refused(error: requests.RequestException) -> bool:
    """Whether the connection was refused, so that no server has the request."""
    return bool(error.args) and isinstance(getattr(error.args[0], "reason", None), NewConnectionError)
