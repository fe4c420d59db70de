"""Clients that hang up, that send slowly or all at once: whoever asks beside them gets an answer."""

import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from socket import SO_LINGER, SOL_SOCKET, socket

import pytest

from scripts.torchserve.server import Server
from tests.integration.contract import LITE0, post, torchserve
from tests.integration.raw_http import CAT, connect, connections, nothing_lost, read_answer, request, wait_until

GONE = 60
SLOW = 150  # connections


def reset(connection: socket) -> None:
    """Close with RST, as a program that is killed does."""
    connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 1], ids=["at once", "after the head", "half way", "before the answer"])
def test_who_hangs_up_costs_nobody_an_answer(server: Server, cat: bytes, share: float) -> None:
    data = request(cat)

    def leave(number: int) -> None:
        connection = connect(server)
        connection.sendall(data[: int(len(data) * share)])
        reset(connection) if number % 2 else connection.close()

    def classify(_: int) -> str:
        return str(post(torchserve(server), LITE0, cat).json()["class"])

    with nothing_lost(server, cat), ThreadPoolExecutor(8) as pool:
        neighbours = pool.map(classify, range(16))
        list(pool.map(leave, range(GONE)))
        assert list(neighbours) == [CAT] * 16


def test_slow_senders_are_kept_and_hold_up_nobody(server: Server, cat: bytes) -> None:
    """They are kept for ever: TorchServe has no timeout for requests. the gateway has."""
    with nothing_lost(server, cat), ExitStack() as stack:
        before = connections(server)
        slow = [stack.enter_context(connect(server)) for _ in range(SLOW)]
        for number, connection in enumerate(slow):
            connection.sendall(request(cat)[: 40 if number % 2 else 5000])  # in the head, in the body
        wait_until(lambda: connections(server) >= before + SLOW, "the front end does not take them")
        for _ in range(5):
            for connection in slow:
                connection.sendall(b"x")
            assert post(torchserve(server), LITE0, cat).json()["class"] == CAT
        assert connections(server) >= before + SLOW


def test_a_length_that_is_too_large_waits_for_the_rest(server: Server, cat: bytes) -> None:
    data = request(cat)
    with nothing_lost(server, cat), connect(server) as connection:
        connection.sendall(data[:-1])
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(60)
        connection.sendall(data[-1:])
        assert read_answer(connection).content["class"] == CAT


def test_a_length_that_is_too_small_makes_the_rest_a_bad_request(server: Server, cat: bytes) -> None:
    data = request(cat).replace(f"Content-Length: {len(cat)}".encode(), b"Content-Length: 10")
    with nothing_lost(server, cat), connect(server) as connection:
        connection.sendall(data)
        assert read_answer(connection).status in (400, 415)  # of the second, or of the first: they are not in order


def test_pipelined_requests_are_all_answered_but_in_no_order(server: Server, cat: bytes) -> None:
    """HTTP wants them in order. Nobody pipelines; Envoy does not."""
    with nothing_lost(server, cat), connect(server) as connection:
        connection.sendall(request(cat) + request(method="GET", path="/ping", length=False))
        received = b""
        while received.count(b"HTTP/1.1 200") < 2 or CAT.encode() not in received:
            more = connection.recv(1 << 16)
            assert more, received
            received += more
    assert b'"status": "Healthy"' in received
