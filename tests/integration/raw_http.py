"""A client that sends what no HTTP library would, and what must be true of a server after that."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import psutil
import requests

from scripts.torchserve.server import Server, front_end
from tests.integration.contract import LITE0, TIMEOUT_S, post, torchserve

PREDICT = f"/predictions/{LITE0}"
CAT = "n02124075 Egyptian cat"
_DEADLINE_S = 30


class Answer(NamedTuple):
    """The first answer on a connection. Status 0: there was none, the connection was closed."""

    status: int
    content: Any

    @property
    def code(self) -> str:
        """A problem's code, or the front end's `type`; empty for a good answer and for none."""
        fields = self.content if isinstance(self.content, dict) else {}
        return str(fields.get("code", "")) if "detail" in fields else str(fields.get("type", ""))


def connect(server: Server) -> socket.socket:
    host, port = torchserve(server).removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), TIMEOUT_S)


def request(body: bytes = b"", *headers: str, method: str = "POST", path: str = PREDICT, length: bool = True) -> bytes:
    """The bytes of a request. With `length` off it says nothing of its body's length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def exchange(server: Server, data: bytes) -> Answer:
    """Send bytes, read the first final answer."""
    with connect(server) as connection:
        with suppress(ConnectionError):  # refused before the end; the answer may be there
            connection.sendall(data)
        return read_answer(connection)


def read_answer(connection: socket.socket, received: bytes = b"") -> Answer:
    """The next answer on a connection that is not `100 Continue`."""
    while True:
        head, found, rest = received.partition(b"\r\n\r\n")
        if found and re.match(rb"HTTP/1.1 100 ", head):
            received = rest
            continue
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if found and length and len(rest) >= int(length[1]):
            return Answer(int(head.split()[1]), _content(rest[: int(length[1])]))
        try:
            more = connection.recv(1 << 16)
        except ConnectionResetError:
            more = b""
        if not more:
            return Answer(0, None)
        received += more


def _content(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body


def workers(server: Server) -> dict[int, str]:
    """The workers of the model, by pid, and their status."""
    (described,) = requests.get(f"{server.addresses.management}/models/{LITE0}", timeout=TIMEOUT_S).json()
    return {worker["pid"]: worker["status"] for worker in described["workers"]}


def connections(server: Server) -> int:
    """How many connections the front end holds at its inference port."""
    port = server.addresses.ports()["inference"]
    held = front_end(server).net_connections("tcp")
    return sum(c.laddr.port == port and c.status != psutil.CONN_LISTEN for c in held)


def wait_until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@contextmanager
def nothing_lost(server: Server, cat: bytes) -> Iterator[None]:
    """Afterwards the same worker gives the right answer, and the front end holds no connection more than before."""
    before, open_before = workers(server), connections(server)
    yield
    assert post(torchserve(server), LITE0, cat).json()["class"] == CAT
    assert workers(server) == before
    wait_until(lambda: connections(server) <= open_before, "the front end keeps connections that clients have left")
