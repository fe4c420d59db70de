"""Brings a version's workers to rest, and waits for its last requests, before TorchServe takes workers away.

TorchServe 0.12.0 does not wait for anything: the requests in the queue of a version that it removes are never
answered, and those in a worker that it ends get status 500 or no answer. It cannot refuse new requests to one version
either, so a version whose clients go on naming it cannot be removed without harm.
"""

import re
import select
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import psutil
from classifier.hold import at_rest, hold

from scripts.console import UserError
from scripts.torchserve.client import Client
from scripts.torchserve.described import ModelVersion
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.server import Server

_QUIET_S: Final = 2.0  # a version that got no request for so long is taken for one that nobody asks
_POLL_S: Final = 0.05
_TIMEOUT_S: Final = 10
# TorchServe counts a request before it puts it into the queue, under the version that the client named, or `default`.
_ACCEPTED: Final = re.compile(
    r'^ts_inference_requests_total\{model_name="(?P<model>[^"]*)",model_version="(?P<version>[^"]*)",[^}]*\} '
    r"(?P<number>\S+)",
    re.MULTILINE,
)


class NotDrainedError(UserError):
    """Workers cannot be taken away without harm to requests; the message says why."""


@contextmanager
def drained(server: Server, model: str, version: str, deadline_s: float) -> Iterator[None]:
    """Wait until a version has answered all of its requests and gets no more; in the block, its workers are at rest.

    Raises:
        NotDrainedError: it still has or gets requests at the deadline, or as `resting`.
    """
    client, end = server.client(), time.monotonic() + deadline_s
    labels = {version, *(["default"] if client.answering(model).version == version else [])}
    first = _accepted(client, model, labels)
    while True:
        accepted = _wait_until_quiet(client, model, version, labels, first, end)
        with resting(server, model, version, end - time.monotonic()):
            if not client.version(model, version).waiting and _accepted(client, model, labels) == accepted:
                yield
                return


@contextmanager
def resting(server: Server, model: str, version: str, deadline_s: float) -> Iterator[None]:
    """Hold every READY worker of a version between two batches; requests wait in its queue until the block ends.

    Raises:
        NotDrainedError: a worker does not come to rest in time, does not know how to, or is held by somebody else.
    """
    temporary, client, end = Path(server.temporary), server.client(), time.monotonic() + deadline_s
    with ExitStack() as stack:
        try:
            stack.enter_context(hold(temporary))
        except BlockingIOError as error:
            raise NotDrainedError(f"another command is changing the workers of {model} at this moment") from error
        questions: list[_Question] = []
        while not (workers := _alive(client, model, version)) <= at_rest(temporary):
            if time.monotonic() > end:
                late = f"{len(workers - at_rest(temporary))} of {len(workers)} workers"
                raise NotDrainedError(f"{late} of {model} {version} did not finish their batch in {deadline_s:.0f} s")
            if HTTPStatus.OK in [question.status() for question in questions]:
                raise NotDrainedError(
                    f"{model} {version} is of an older archive, whose workers never say that they rest"
                )
            waiting = sum(question.status() is None for question in questions)
            questions += [  # a resting worker has one of them; another may have met a full queue
                stack.enter_context(_asked(client, model, version)) for _ in range(len(workers) - waiting)
            ]
            time.sleep(_POLL_S)
        yield


def _wait_until_quiet(client: Client, model: str, version: str, labels: set[str], first: float, end: float) -> float:
    """Wait until a version has no request in its queue and has got none for a while; returns how many it ever got."""
    accepted, since = _accepted(client, model, labels), time.monotonic()
    while True:
        time.sleep(_POLL_S)
        before, accepted = accepted, _accepted(client, model, labels)
        described = client.version(model, version)
        if accepted != before or described.waiting:
            since = time.monotonic()
        elif time.monotonic() - since >= _QUIET_S:
            return accepted
        if time.monotonic() > end:
            raise NotDrainedError(_why(described, asked=accepted > first))


def _why(version: ModelVersion, *, asked: bool) -> str:
    """Why a version is not quiet."""
    name = f"{version.name} {version.version}"
    if version.waiting and not version.ready_pids:
        return f"{version.waiting} requests wait for {name}, and none of its workers is READY"
    if not asked:
        return f"{name} has not answered its last requests yet"
    return f"{name} still gets requests, and TorchServe cannot refuse them: its clients must ask another version first"


def _accepted(client: Client, model: str, labels: set[str]) -> float:
    """How many requests a model has got under these versions; 0 if the server tells no metrics."""
    try:
        page = client.metrics()
    except RequestFailedError:  # switched off: then only the queue tells
        return 0
    found = _ACCEPTED.finditer(page)
    return sum(float(each["number"]) for each in found if each["model"] == model and each["version"] in labels)


def _alive(client: Client, model: str, version: str) -> set[int]:
    """The processes of a version's READY workers; not those that ended without TorchServe noticing."""
    return {pid for pid in client.version(model, version).ready_pids if psutil.pid_exists(pid)}


def _connection(client: Client) -> HTTPConnection:
    scheme, host, *_ = urlsplit(client.addresses.management)
    if scheme == "http":
        return HTTPConnection(host, timeout=_TIMEOUT_S)
    context = ssl.create_default_context(cafile=client.certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 there may be bytes to read that are no answer
    return HTTPSConnection(host, timeout=_TIMEOUT_S, context=context)


class _Question:
    """A question for the description of a version, on a connection of its own, whose answer is not waited for."""

    def __init__(self, client: Client, model: str, version: str) -> None:
        self.connection = _connection(client)
        self._path = f"/models/{quote(model, safe='')}/{quote(version, safe='')}?customized=true"
        self._headers = client.tokens.headers("management")
        self._status: int | None = None

    def ask(self) -> None:
        """Send it."""
        self.connection.request("GET", self._path, headers=self._headers)

    def status(self) -> int | None:
        """The status of the answer, 0 if the connection was cut; None as long as there is no answer."""
        if self._status is None and select.select([self.connection.sock], [], [], 0)[0]:
            try:
                self._status = self.connection.getresponse().status
            except (OSError, HTTPException):
                self._status = 0
            self.connection.close()  # while a queue is full, there are many questions one after the other
        return self._status


@contextmanager
def _asked(client: Client, model: str, version: str) -> Iterator[_Question]:
    question = _Question(client, model, version)
    try:
        question.ask()
        yield question
    finally:
        question.connection.close()
