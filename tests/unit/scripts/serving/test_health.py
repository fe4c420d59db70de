"""The address for load balancers, where no server runs: tests/integration/test_health.py has one."""

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from scripts.console import UserError
from scripts.serving.health import PATH, listener, listening, main

PROBES = 200
LONG_S = 30


def test_probes_that_arrive_together_wait_for_no_second_try_of_theirs(tmp_path: Path) -> None:
    """A system that has no room for a connection drops it, and the client tries again after a second."""
    with listener(tmp_path, "127.0.0.1", 0) as server, ExitStack() as stack:  # nobody takes connections yet
        for _ in range(PROBES):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.server_port), timeout=0.9))


def test_each_of_many_probes_at_once_is_answered(tmp_path: Path) -> None:
    with listening(tmp_path, "127.0.0.1", 0) as port, ExitStack() as stack:
        probes = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=LONG_S)) for _ in range(PROBES)
        ]
        for probe in probes:
            probe.sendall(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert {probe.recv(12) for probe in probes} == {b"HTTP/1.0 503"}


@pytest.mark.parametrize(("listen", "port"), [("127.0.0.1", 65_536), ("127.0.0.1", -1), ("no.such.name.invalid", 0)])
def test_where_it_cannot_listen_it_says_so(tmp_path: Path, listen: str, port: int) -> None:
    with pytest.raises(UserError, match=f"health: cannot listen on {listen}:{port}: "):
        listener(tmp_path, listen, port)


def test_a_port_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"port 65536 \(health\) does not exist, or pass PORT=<another>"):
        main(port=65_536, state=tmp_path)
