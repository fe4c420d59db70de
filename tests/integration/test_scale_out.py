"""Two replicas, each in a network namespace of its own, behind the gateway that users would have."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from classifier.recipe import read_recipe

from scripts.archives.store import Archive, find_archive
from scripts.building.golden import photograph
from scripts.console import UserError
from scripts.torchserve.config import read_config
from stress.scale_out.fleet import Fleet, TorchServe, fleet
from stress.scale_out.scenarios import Outcome, one_cut_off, one_killed, rolling_restart, rolling_update
from tests.integration.conftest import CHECKOUT, STORE, make
from tests.integration.contract import TIMEOUT_S, post

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

MODEL = "efficientnet_lite0"
OLD, NEW = f"{MODEL}-openvino", f"{MODEL}-openvino-int8"
CAT = "n02124075 Egyptian cat"
ESPRESSO = "n07920052 espresso"
COFFEE = photograph("coffee.png")  # an espresso in every precision and on every processor
DEADLINE_S = 30


def links_and_namespaces() -> set[str]:
    """What `ip` knows of, by name."""
    program = shutil.which("ip")
    assert program is not None
    said = [subprocess.check_output([program, *what], text=True) for what in (["netns"], ["-brief", "link"])]
    return {line.split()[0] for text in said for line in text.splitlines()}


@pytest.fixture(scope="module")
def old() -> Archive:
    return _built("float32", OLD)


@pytest.fixture(scope="module")
def new() -> Archive:
    return _built("int8", NEW)


def _built(precision: str, name: str) -> Archive:
    result = make("archive", f"MODEL={MODEL}", "RUNTIME=openvino", f"PRECISION={precision}")
    assert result.returncode == 0, result.stderr
    return find_archive(name, STORE)


@pytest.fixture(scope="module")
def running(old: Archive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    before = links_and_namespaces()
    with fleet(
        2, old, read_recipe(CHECKOUT / f"recipes/{MODEL}.yaml"), tmp_path_factory.mktemp("fleet"), COFFEE
    ) as replicas:
        yield replicas
    assert links_and_namespaces() == before


def test_users_get_a_replicas_answer_and_nothing_else_of_it(running: Fleet, cat: bytes) -> None:
    address = running.gateway.address
    answer = post(address, MODEL, cat)
    assert answer.json()["class"] == CAT
    assert post(address, "nope", cat).status_code == 404
    assert post(address, MODEL, b"no picture").json()["code"] == "not_an_image"
    for hidden in ("models", "", "predictions", "ping/../models"):
        assert requests.get(f"{address}/{hidden}", timeout=TIMEOUT_S).status_code == 404, hidden


def test_a_body_above_torchserves_limit_is_refused_at_the_door(running: Fleet) -> None:
    limit = int(read_config()["max_request_size"])
    assert post(running.gateway.address, MODEL, b"x" * (limit + 1)).status_code == 413


def test_a_replica_without_a_worker_gets_nothing_though_it_says_healthy(running: Fleet, cat: bytes) -> None:
    lame = running.servers[0]
    lame.run("scale", f"--model={MODEL}", "--workers=0", "--force")
    assert requests.get(f"http://{lame.replica}/ping", timeout=TIMEOUT_S).json() == {"status": "Healthy"}
    _wait_unhealthy(running, lame)
    sent = running.gateway.hosts()[lame.replica].sent
    assert [post(running.gateway.address, MODEL, cat).status_code for _ in range(10)] == [200] * 10
    assert running.gateway.hosts()[lame.replica].sent == sent
    lame.run("scale", f"--model={MODEL}", "--workers=2")
    running.gateway.wait_healthy([lame.replica])


def _wait_unhealthy(running: Fleet, server: TorchServe) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while running.gateway.hosts()[server.replica].healthy:
        assert time.monotonic() < deadline, "the gateway never noticed"
        time.sleep(0.1)


def test_the_last_healthy_replica_is_not_drained(running: Fleet) -> None:
    first, second = (server.replica for server in running.servers)
    running.gateway.drain(first)
    with pytest.raises(UserError, match=f"{second} is the only healthy replica"):
        running.gateway.drain(second)
    running.gateway.restore(first)


@pytest.mark.thorough
def test_a_replica_that_is_cut_off_costs_no_request(running: Fleet) -> None:
    assert_nothing_lost(one_cut_off(running), retried=True)


@pytest.mark.thorough
def test_a_replica_that_is_killed_costs_no_request(running: Fleet, old: Archive) -> None:
    assert_nothing_lost(one_killed(running, old), retried=True)


@pytest.mark.thorough
def test_a_rolling_restart_costs_no_request(running: Fleet, old: Archive) -> None:
    assert_nothing_lost(rolling_restart(running, old), retried=False)


def test_a_rolling_update_costs_no_request_and_gives_no_wrong_answer(
    running: Fleet, old: Archive, new: Archive
) -> None:
    outcome = rolling_update(running, old, new)
    assert_nothing_lost(outcome, retried=False)
    before, after = (archive.identity.model.version for archive in (old, new))
    assert (outcome.before, outcome.after) == ({before}, {after})
    assert set(outcome.versions) == {before, after}


def assert_nothing_lost(outcome: Outcome, *, retried: bool) -> None:
    assert outcome.answers
    assert outcome.lost == []
    assert {answer.label for answer in outcome.answers} == {ESPRESSO}
    assert (outcome.retries > 0) == retried  # so that it did meet requests in flight; or that draining spared them


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_namespace_link_or_process(number: signal.Signals) -> None:
    program = """
import signal, subprocess
from scripts.console import run
from stress.scale_out.network import network
def main():
    with network(2) as machines:
        inside = subprocess.Popen(machines[0].command("sleep", "infinity"))
        print(inside.pid, flush=True)
        signal.pause()
run(main)
"""
    before = links_and_namespaces()
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)
    assert process.stdout is not None
    try:
        with process.stdout as said:
            inside = int(said.readline())
            assert links_and_namespaces() != before
            process.send_signal(number)
            assert process.wait(DEADLINE_S) == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    finally:
        process.terminate()  # it waits for a signal as long as none comes
        process.wait(DEADLINE_S)
    assert links_and_namespaces() == before
    assert not _is_running(inside)


def _is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()
