"""The listener of the exporter, where no server runs: tests/integration/test_health.py has one."""

import socket
from contextlib import ExitStack
from functools import partial
from http import HTTPStatus
from pathlib import Path

import pytest
import requests

from scripts.console import UserError
from scripts.exporter.listener import Pages, listener, listening, ready_page, text_page
from scripts.torchserve.readiness import Readiness

PATH = "/readyz"
PROBES = 200
LONG_S = 30


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    return {PATH: partial(ready_page, Readiness(tmp_path)), "/livez": lambda: text_page(HTTPStatus.OK, "alive")}


def test_probes_that_arrive_together_wait_for_no_second_try_of_theirs(pages: Pages) -> None:
    """A system that has no room for a connection drops it, and the client tries again after a second."""
    with listener("exporter", pages, "127.0.0.1", 0) as server, ExitStack() as stack:  # nobody takes connections yet
        for _ in range(PROBES):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.server_port), timeout=0.9))


def test_each_of_many_probes_at_once_is_answered(pages: Pages) -> None:
    with listening("exporter", pages, "127.0.0.1", 0) as port, ExitStack() as stack:
        probes = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=LONG_S)) for _ in range(PROBES)
        ]
        for probe in probes:
            probe.sendall(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert {probe.recv(12) for probe in probes} == {b"HTTP/1.0 503"}


def test_its_pages_are_all_that_it_has(pages: Pages) -> None:
    with listening("exporter", pages, "127.0.0.1", 0) as port:
        address = f"http://127.0.0.1:{port}"
        answer = requests.get(f"{address}/livez?x=1", timeout=LONG_S)
        assert (answer.status_code, answer.text) == (200, "alive\n")
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert requests.head(f"{address}/livez", timeout=LONG_S).content == b""
        assert [requests.get(address + path, timeout=LONG_S).status_code for path in ("/", "/livez/", "/x")] == [
            404
        ] * 3
        assert requests.post(f"{address}/livez", timeout=LONG_S).status_code == 501


@pytest.mark.parametrize(("listen", "port"), [("127.0.0.1", 65_536), ("127.0.0.1", -1), ("no.such.name.invalid", 0)])
def test_where_it_cannot_listen_it_says_so(pages: Pages, listen: str, port: int) -> None:
    with pytest.raises(UserError, match=f"exporter: cannot listen on {listen}:{port}: "):
        listener("exporter", pages, listen, port)
