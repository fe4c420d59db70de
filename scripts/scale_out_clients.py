"""Clients that each send the next picture when they have the answer to the last one, and write down every outcome."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import requests

_TIMEOUT_S: Final = 160  # outlasts the gateway's


class Answer(NamedTuple):
    """What became of one request."""

    sent: float  # time.monotonic()
    seconds: float
    status: int  # 0: there was no answer
    version: str  # of the model that answered
    label: str  # the likeliest class, or what went wrong


class ClosedLoop:
    """The clients' notes. They grow while `clients` runs; a request that is not answered yet is in none of them."""

    def __init__(self) -> None:
        self._notes: list[Answer] = []  # appending is atomic

    def write_down(self, answer: Answer) -> None:
        """Add an outcome."""
        self._notes.append(answer)

    def answers(self, since: float = 0) -> list[Answer]:
        """All outcomes of requests that were sent after a moment, in the order in which they were sent."""
        return sorted(answer for answer in self._notes if answer.sent >= since)


@contextmanager
def clients(url: str, picture: bytes, number: int) -> Iterator[ClosedLoop]:
    """Clients of a model; at the end each waits for its last answer. They never try anything twice."""
    loop, end = ClosedLoop(), threading.Event()
    threads = [threading.Thread(target=_client, args=(url, picture, loop, end)) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield loop
    finally:
        end.set()
        for thread in threads:
            thread.join()


def _client(url: str, picture: bytes, loop: ClosedLoop, end: threading.Event) -> None:
    with requests.Session() as session:
        session.trust_env = False  # the gateway is on this machine, never behind a proxy
        while not end.is_set():
            loop.write_down(_ask(session, url, picture))


def _ask(session: requests.Session, url: str, picture: bytes) -> Answer:
    sent = time.monotonic()
    try:
        response = session.post(url, data=picture, timeout=_TIMEOUT_S)
        content: dict[str, Any] = response.json() if response.ok else {}
    except requests.RequestException as error:
        return Answer(sent, time.monotonic() - sent, 0, "", str(error))
    seconds = time.monotonic() - sent
    if not response.ok:
        return Answer(sent, seconds, response.status_code, "", response.text[:200])
    return Answer(sent, seconds, response.status_code, content["model"]["version"], content["class"])
