"""The rounds of the comparison with other servers; what stands in for servers answers at once."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import psutil
import pytest

from benchmarks import comparison
from benchmarks.comparison import Side, measure_turns, refuse_other_answer
from benchmarks.measure import Effort
from benchmarks.result import Contender
from benchmarks.running import Running
from scripts.console import UserError
from tests.unit.benchmarks.figures import load
from tests.unit.conftest import StartServer

EFFORT = Effort(warm_up_s=1, rounds=2, stock_s=1, seconds=1, lone_s=1)
OURS = {"class": "n0 cat", "probability": 0.7}


def answering(answer: object) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def side(web_server: StartServer, events: list[str]) -> Callable[..., Side]:
    """A side whose server answers always the same."""

    def make(name: str, answer: object, *, ours: bool = False) -> Side:
        url = web_server(answering(answer))

        @contextmanager
        def start(_: Path) -> Iterator[Running]:
            events.append(f"{name} starts")
            yield Running(url=url, start_s=3, processes=lambda: [psutil.Process()])
            events.append(f"{name} stops")

        return Side(Contender(name=name, ours=ours), start)

    return make


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens, in its order; load is not sent."""
    found: list[str] = []
    monkeypatch.setattr(comparison, "closed_loop", lambda *_: load(20))
    monkeypatch.setattr(comparison, "SETTLED_S", 0)
    return found


def test_each_server_has_its_turn_in_each_round_and_none_runs_beside_another(
    side: Callable[..., Side], picture: Path, events: list[str]
) -> None:
    sides = [side("eager", OURS, ours=True), side("x", {"n0 cat": 0.71, "n1 dog": 0.2})]
    measure_turns(sides, [picture], 4, EFFORT, lambda _: None, memory=True)
    assert events == ["eager starts", "eager stops", "x starts", "x stops"] * 2
    for contender, _ in sides:
        assert [turn.load.rate for turn in contender.turns] == [20, 20]
        assert [turn.start_s for turn in contender.turns] == [3, 3]
        assert contender.memory_mb is not None
        assert contender.memory_mb > 1


def test_memory_is_left_out_of_a_quick_run(side: Callable[..., Side], picture: Path) -> None:
    sides = [side("eager", OURS, ours=True)]
    measure_turns(sides, [picture], 4, EFFORT, lambda _: None, memory=False)
    assert sides[0].contender.memory_mb is None


def test_a_server_that_answers_otherwise_is_refused(side: Callable[..., Side], picture: Path) -> None:
    sides = [side("eager", OURS, ours=True), side("x", {"n1 dog": 0.7})]
    with pytest.raises(UserError, match=r"x answers .*dog.* where this project answers n0 cat, 0\.700"):
        measure_turns(sides, [picture], 4, EFFORT, lambda _: None, memory=False)


@pytest.mark.parametrize("answer", [{"n0 cat": 0.68}, [{"n0 cat": 0.72, "n1 dog": 0.1}]])
def test_probabilities_may_differ_as_decoding_does(answer: object) -> None:
    refuse_other_answer("x", answer, OURS)
    with pytest.raises(UserError):
        refuse_other_answer("x", answer, OURS | {"probability": 0.6})


def test_a_server_that_refuses_all_load_is_no_slow_server(
    side: Callable[..., Side], picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = [side("eager", OURS, ours=True)]
    monkeypatch.setattr(comparison, "closed_loop", lambda *_: load(0))
    with pytest.raises(UserError, match="answered none of its requests"):
        measure_turns(sides, [picture], 4, EFFORT, lambda _: None, memory=False)
