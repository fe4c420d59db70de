import os
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from classifier.hold import at_rest, hold, wait_while_held

from scripts.torchserve import drain
from scripts.torchserve.client import Client
from scripts.torchserve.drain import NotDrainedError, drained, resting
from tests.unit.conftest import Answer, FakeTorchServe, described

DESCRIPTION = "GET /models/tiny/1.0?customized=true"
LONG_S = 30
BUSY = Answer({"code": 503, "type": "ServiceUnavailableException", "message": "no worker"}, 503)


class Worker(list[Answer]):
    """The answers of a worker that rests while its server is held, after those that it is made with."""

    def __init__(self, temporary: Path, *before: Answer) -> None:
        super().__init__([*before, Answer([described("1.0", "READY")])])
        self.temporary = temporary

    def __getitem__(self, index: object) -> Answer:  # type: ignore[override]
        wait_while_held(self.temporary)
        return super().__getitem__(-1)


def one_worker(**more: Any) -> dict[str, Any]:
    """A version with one READY worker, whose process is this one."""
    version = described("1.0", "READY", **more)
    version["workers"][0]["pid"] = os.getpid()
    return version


@pytest.fixture
def served(torchserve: FakeTorchServe, monkeypatch: pytest.MonkeyPatch) -> FakeTorchServe:
    monkeypatch.setattr(drain, "_QUIET_S", 0.0)
    torchserve.answers = {
        "GET /models/tiny/1.0": [Answer([one_worker()])],
        "GET /models/tiny": [Answer([described("2.0", "READY")])],
        DESCRIPTION: Worker(torchserve.temporary),
    }
    return torchserve


def test_every_worker_rests_in_the_block(served: FakeTorchServe) -> None:
    with resting(served.server, "tiny", "1.0", LONG_S):
        assert at_rest(served.temporary) == {os.getpid()}
    assert list(served.temporary.iterdir()) == []


def test_a_worker_whose_queue_is_full_is_asked_again(served: FakeTorchServe) -> None:
    served.answers[DESCRIPTION] = Worker(served.temporary, BUSY, BUSY)
    with resting(served.server, "tiny", "1.0", LONG_S):
        assert at_rest(served.temporary) == {os.getpid()}
    assert served.questions().count(DESCRIPTION) == 3


def test_answered_questions_keep_no_connection(served: FakeTorchServe, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a queue is full, there are twenty of them a second for each worker."""
    opened, connect = [], drain._connection

    def connection(client: Client) -> HTTPConnection:
        opened.append(connect(client))
        return opened[-1]

    monkeypatch.setattr(drain, "_connection", connection)
    monkeypatch.setattr(BaseHTTPRequestHandler, "protocol_version", "HTTP/1.1")  # as TorchServe: connections stay open
    served.answers[DESCRIPTION] = Worker(served.temporary, *[BUSY] * 5)
    with resting(served.server, "tiny", "1.0", LONG_S):
        assert [each.sock is None for each in opened] == [True] * 5 + [False]


def test_workers_without_a_process_or_not_ready_are_not_waited_for(served: FakeTorchServe) -> None:
    served.answers["GET /models/tiny/1.0"] = [Answer([described("1.0", "READY", "UNLOADING", minimum=2)])]
    with resting(served.server, "tiny", "1.0", LONG_S):
        pass
    assert DESCRIPTION not in served.questions()


def test_a_worker_of_an_archive_that_does_not_know_how_to_rest_is_said(served: FakeTorchServe) -> None:
    served.answers[DESCRIPTION] = [Answer([one_worker()])]
    with (
        pytest.raises(NotDrainedError, match=r"tiny 1\.0 is of an older archive"),
        resting(served.server, "tiny", "1.0", LONG_S),
    ):
        pass


def test_a_worker_that_does_not_finish_is_said(served: FakeTorchServe) -> None:
    served.answers[DESCRIPTION] = [BUSY]
    with (
        pytest.raises(NotDrainedError, match=r"1 of 1 workers of tiny 1\.0 did not finish their batch in 0 s"),
        resting(served.server, "tiny", "1.0", 0.3),
    ):
        pass
    assert list(served.temporary.iterdir()) == []


def test_two_commands_do_not_change_workers_at_once(served: FakeTorchServe) -> None:
    with (
        hold(served.temporary),
        pytest.raises(NotDrainedError, match="another command is changing the workers of tiny"),
        resting(served.server, "tiny", "1.0", LONG_S),
    ):
        pass


def test_a_request_that_arrives_while_workers_come_to_rest_is_answered_first(served: FakeTorchServe) -> None:

    class Arriving(list[Answer]):
        """The version: a request has arrived when its worker rests for the first time."""

        def __getitem__(self, index: object) -> Answer:  # type: ignore[override]
            held = any(served.temporary.iterdir())
            return Answer([one_worker(waiting=int(held and served.questions().count(DESCRIPTION) == 1))])

    served.answers["GET /models/tiny/1.0"] = Arriving([BUSY])
    with drained(served.server, "tiny", "1.0", LONG_S):
        assert at_rest(served.temporary) == {os.getpid()}
    assert served.questions().count(DESCRIPTION) == 2
