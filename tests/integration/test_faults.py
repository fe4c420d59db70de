"""Faults done to a real server under load. `make faults` measures all of them; docs/faults.md has the figures."""

import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from scripts.archives.store import find_archive
from scripts.torchserve.log import read_workers
from scripts.torchserve.server import CONSOLE_LOG, Server, find, front_end, workers
from stress.clients import clients
from stress.faults import scenarios
from stress.faults.__main__ import impatient
from stress.faults.injection import kill, memory_group, memory_groups
from stress.faults.stand import CLIENTS, Run, Stand, until
from stress.hostile.bombs import largest
from stress.questions import Body
from tests.integration.conftest import CHECKOUT, STORE, make, serve_in_front
from tests.integration.contract import LITE0
from tests.integration.test_lost_worker_7070 import lose_the_worker

BATCH = 8
VERSION = "5.0"  # of the archive in OpenVINO
DEADLINE_S = 120


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Two workers with a short response timeout."""
    result = make("archive", f"MODEL={LITE0}", "RUNTIME=openvino")
    assert result.returncode == 0, result.stderr
    folder = tmp_path_factory.mktemp("faults")
    hurried = impatient(find_archive(f"{LITE0}-openvino", STORE), folder / "hurried")
    with Stand(hurried, folder / "stand").running() as started:
        yield started


def assert_no_more_than_a_batch_was_refused(run: Run, *refusals: str) -> None:
    assert_nobody_got_anothers_result(run)
    assert {answer.status for answer in run.failed} <= {500, 507}
    assert set(run.refused) <= set(refusals)
    assert len(run.failed) <= BATCH


def assert_nobody_got_anothers_result(run: Run) -> None:
    assert [answer for answer in run.answers if answer.wrong] == []
    assert sum(answer.kept for answer in run.answers) > CLIENTS


def load_times(stand: Stand) -> Counter[str]:
    """What the metrics port says of each worker."""
    families = text_string_to_metric_families(stand.client.metrics())
    found = [family for family in families if family.name == "WorkerLoadTime"]
    return Counter({sample.labels["WorkerName"]: int(sample.value) for family in found for sample in family.samples})


def test_a_restart_of_a_worker_changes_its_load_time_at_the_metrics_port_and_no_others(stand: Stand) -> None:
    """What tells a restart without the exporter."""
    before, victim = load_times(stand), workers(stand.server)[0]
    assert len(before) == len(workers(stand.server))
    kill(victim)
    until(lambda: stand.healthy({victim.pid}), "worker in its place")
    after = load_times(stand)
    assert sum(after[name] != before[name] for name in before) == 1
    assert after.keys() == before.keys()


def test_a_killed_worker_costs_its_batch_and_comes_back(stand: Stand) -> None:
    for fault in (scenarios.one_of_two_workers_killed, scenarios.the_only_worker_killed):
        run = fault(stand)
        assert_no_more_than_a_batch_was_refused(run, "500 Worker died", "507 Worker died")
        assert run.pings == {"Healthy"}  # it lies: a worker was missing


@pytest.mark.thorough
def test_status_says_how_often_a_worker_was_restarted(stand: Stand) -> None:
    restarts = sum(worker.restarts for worker in read_workers(stand.state / CONSOLE_LOG).of(LITE0, VERSION))
    victim = workers(stand.server)[0]
    kill(victim)
    until(lambda: stand.healthy({victim.pid}), "worker in its place")
    said = make("status", f"STATE={stand.state}").stdout
    counted = re.findall(r"restarted (\d+) times; the last reason: it logged no exception", said)
    assert sum(map(int, counted)) == restarts + 1


def test_a_worker_that_hangs_is_replaced_after_the_response_timeout(stand: Stand) -> None:
    run = scenarios.worker_hangs(stand)
    assert_no_more_than_a_batch_was_refused(run, "500 Worker died")
    assert run.note == "the hung process is killed"
    reasons = {worker.reason for worker in read_workers(stand.state / CONSOLE_LOG).of(LITE0, VERSION)}
    assert "it did not answer in time" in reasons


@pytest.mark.thorough
def test_pictures_that_take_more_memory_than_there_is_hurt_no_others(stand: Stand) -> None:
    run = scenarios.allocations_fail(stand)
    assert_nobody_got_anothers_result(run)
    assert run.failed == []
    assert run.note == "the huge pictures got 500 internal (3 times)"


@pytest.mark.thorough
def test_a_worker_that_the_kernel_kills_for_its_memory_comes_back(stand: Stand) -> None:
    if memory_groups() is None:
        pytest.skip("control groups with a memory limit take root and the memory controller")
    run = scenarios.memory_limit_exceeded(stand)
    assert_no_more_than_a_batch_was_refused(run, "500 Worker died", "507 Worker died")
    assert "Worker died" in run.note


@pytest.mark.thorough
def test_a_batch_of_pictures_as_large_as_allowed_is_not_too_much_for_a_containers_memory(tmp_path: Path) -> None:
    if memory_groups() is None:
        pytest.skip("control groups with a memory limit take root and the memory controller")
    bodies = [Body(name, data, 200) for name, data in largest()]
    with Stand(find_archive(f"{LITE0}-eager", STORE), tmp_path).running() as patient:  # eight take longer than 5 s
        patient.scale(1)
        (worker,) = workers(patient.server)
        # One takes 1.1 GB of it, a second may still hold a quarter of that; two at once do not fit.
        with memory_group(worker, 1_600_000_000), clients(patient.url, bodies, 2 * BATCH) as loop:
            until(lambda: len(loop.answers()) >= 2 * BATCH, "answers to the largest pictures")
        assert [answer for answer in loop.answers() if not answer.kept] == []
        assert workers(patient.server) == [worker]


@pytest.mark.thorough
def test_a_deleted_archive_is_not_missed_until_the_server_is_started_again(stand: Stand) -> None:
    run = scenarios.archive_deleted(stand)
    assert_no_more_than_a_batch_was_refused(run, "500 Worker died", "507 Worker died")
    assert run.note == f"a third worker starts too; version {VERSION} answers"


@pytest.mark.thorough
def test_a_full_queue_refuses_at_once_and_only_what_is_too_much(stand: Stand) -> None:
    run = scenarios.queue_full(stand)
    assert_nobody_got_anothers_result(run)
    assert set(run.refused) == {"503 has no worker"}
    assert run.number(0) == run.number(-1) == 0


@contextmanager
def in_front(state: Path) -> Iterator[tuple[subprocess.Popen[str], Server]]:
    """`make serve FOREGROUND=1`, ready."""
    log = state.with_suffix(".err")
    with (
        log.open("w") as errors,
        subprocess.Popen(
            serve_in_front(state), cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "try " in line:  # the last line of what is said when all is ready
                    break
            server = find(state)
            assert server is not None
            yield process, server
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


def assert_it_ends_with_its_reason(process: subprocess.Popen[str], server: Server, state: Path, reason: str) -> None:
    assert process.stdout is not None
    process.stdout.read()
    assert process.wait(DEADLINE_S) == 1
    assert reason in state.with_suffix(".err").read_text()
    assert not psutil.pid_exists(server.pid)
    assert not Path(server.temporary).exists()


@pytest.mark.thorough
def test_a_worker_that_dies_again_and_again_ends_a_server_in_front(tmp_path: Path) -> None:
    """As when something cleans the folder of temporary files: what a worker loads is gone."""
    state = tmp_path / "state"
    with in_front(state) as (process, server):
        (identity,) = Path(server.temporary).glob("models/*/identity.json")
        identity.unlink()
        kill(workers(server)[0])
        assert_it_ends_with_its_reason(process, server, state, "died 5 times in")
    assert "identity.json is missing" in state.with_suffix(".err").read_text()


@pytest.mark.thorough
def test_a_worker_that_dies_of_every_request_ends_a_server_in_front(tmp_path: Path) -> None:
    """It loads each time, so TorchServe would go on for ever."""
    state = tmp_path / "state"
    with in_front(state) as (process, server):
        client = server.client()
        for _ in range(5):
            until(lambda: client.version(LITE0, "1.0").ready or process.poll() is not None, "READY worker")
            (worker,) = workers(server)
            os.kill(worker.pid, signal.SIGSEGV)
            psutil.wait_procs([worker], timeout=DEADLINE_S)
            until(lambda: not client.version(LITE0, "1.0").ready, "notice of its death")
        assert_it_ends_with_its_reason(process, server, state, "died 5 times in")


def test_a_front_end_that_is_killed_ends_a_server_in_front(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with in_front(state) as (process, server):
        kill(front_end(server))
        assert_it_ends_with_its_reason(process, server, state, "TorchServe ended by itself")


@pytest.mark.thorough
def test_a_worker_that_is_lost_ends_a_server_in_front(tmp_path: Path, cat: bytes) -> None:
    """TorchServe takes it for READY, so nothing else would ever bring it back."""
    state = tmp_path / "state"
    with in_front(state) as (process, server):
        lose_the_worker(server, cat)
        assert_it_ends_with_its_reason(process, server, state, "a worker's process has ended")
