"""The clients of the benchmark against a real server."""

from pathlib import Path

import pytest

from benchmarks.in_process import InProcess
from benchmarks.load import closed_loop, open_loop, post
from benchmarks.pictures import make_pictures
from benchmarks.running import cpu_seconds, processes
from scripts.torchserve.server import Server
from tests.integration.conftest import STORE


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_pictures(tmp_path_factory.mktemp("pictures"))["small"]


def where(server: Server) -> str:
    return f"{server.addresses.inference}/predictions/efficientnet_lite0"


def test_a_closed_loop_counts_answers_and_their_latencies(server: Server, bodies: list[Path]) -> None:
    before = cpu_seconds(processes(server.pid))
    load = closed_loop(where(server), bodies, clients=4, seconds=8)
    assert load.answers > 4
    assert load.failed == 0
    assert 0 < load.p50_ms <= load.p90_ms <= load.p99_ms < load.seconds * 1000
    assert cpu_seconds(processes(server.pid)) > before


def test_pictures_may_come_as_files_of_a_form(server: Server, bodies: list[Path]) -> None:
    load = closed_loop(where(server), bodies, clients=4, seconds=12, field="data")
    assert load.answers > 4
    assert load.failed == 0
    form, raw = (post(where(server), bodies[0], field).json()["predictions"] for field in ("data", ""))
    assert [item["class_id"] for item in form] == [item["class_id"] for item in raw]
    # a picture in a batch with what the loop left in the queue differs in the last digits
    assert [item["probability"] for item in form] == pytest.approx([item["probability"] for item in raw], abs=1e-5)


def test_a_closed_loop_counts_refusals_apart(server: Server, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a picture")
    load = closed_loop(where(server), [tmp_path / "text"], clients=2, seconds=8)
    assert load.answers == 0
    assert load.failed > 0


def test_an_open_loop_sends_at_the_rate_that_is_asked(server: Server, bodies: list[Path]) -> None:
    load = open_loop(where(server), bodies, rate=10, seconds=4)
    assert load.failed == 0
    assert 15 <= load.answers <= 65  # a Poisson process of 40 on average: beyond four deviations on both sides
    assert 0 < load.p50_ms <= load.p99_ms


def test_without_a_server_the_same_archive_is_measured(bodies: list[Path]) -> None:
    with InProcess(STORE / "efficientnet_lite0-eager-1.0.mar") as alone:
        for what in ("raw", "pipe", "lone"):
            load = alone.measure(what, bodies, seconds=0.5)
            assert load.answers > 0
            assert load.rate > 0
