"""`make up` and `make down`: everything on one machine, and nothing that was asked is lost when it ends."""

import os
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import requests

from scripts.ports import free_port
from scripts.torchserve.server import find
from tests.integration.conftest import PHOTOGRAPHS, make
from tests.integration.contract import LITE0, TIMEOUT_S

CLIENTS = 8
ENOUGH = 3 * CLIENTS


@pytest.fixture
def ports() -> dict[str, int]:
    with ExitStack() as stack:
        return {name: free_port(stack) for name in ("PORT", "PROMETHEUS_PORT", "DASHBOARD_PORT")}


@pytest.fixture
def up(tmp_path: Path, ports: dict[str, int]) -> Iterator[str]:
    """What `make up` printed."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed; `make setup-system` says how")
    make("archive", f"MODEL={LITE0}", "RUNTIME=openvino", "PRECISION=int8")
    places = (f"STATE={tmp_path / 'state'}", f"FOLDER={tmp_path / 'up'}")
    given = [f"{name}={port}" for name, port in ports.items()]
    started = make("up", f"MODELS={LITE0}-openvino-int8", "PORTS=free", *places, *given)
    try:
        assert started.returncode == 0, started.stderr
        yield started.stdout
    finally:
        make("down", *places)


def ours(folder: Path) -> list[str]:
    """The command lines of processes that name a folder."""
    lines = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline", "pid"]))
    return [line for line in lines if str(folder) in line and str(os.getpid()) not in line.split()]


def test_everything_answers_and_ends_without_losing_a_request(up: str, ports: dict[str, int], tmp_path: Path) -> None:
    at = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    for address in (f"{at['PROMETHEUS_PORT']}", f"{at['PORT']}/predictions/{LITE0}", f"{at['DASHBOARD_PORT']}/"):
        assert address in up
    assert requests.get(f"{at['PROMETHEUS_PORT']}/-/ready", timeout=TIMEOUT_S).status_code == 200
    assert requests.get(at["DASHBOARD_PORT"], timeout=TIMEOUT_S).status_code == 200
    statuses, refused, picture = list[int](), list[str](), PHOTOGRAPHS[0].read_bytes()

    def ask() -> None:
        while True:
            try:
                url = f"{at['PORT']}/predictions/{LITE0}"
                statuses.append(requests.post(url, data=picture, timeout=TIMEOUT_S).status_code)
            except requests.ConnectionError as error:
                refused.append(str(error))
                return

    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask) for _ in range(CLIENTS)]
        while len(statuses) < ENOUGH:
            assert not wait(asking, timeout=0.1).done
        ended = make("down", f"STATE={tmp_path / 'state'}", f"FOLDER={tmp_path / 'up'}")
        for one in asking:
            one.result()
    assert ended.returncode == 0, ended.stderr
    assert set(statuses) == {200}
    assert all("Connection refused" in error for error in refused)
    assert find(tmp_path / "state") is None
    assert list((tmp_path / "up").glob("*.json")) == []
    assert ours(tmp_path / "up") == []


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path, ports: dict[str, int]) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed; `make setup-system` says how")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports["DASHBOARD_PORT"]))
        taken.listen()
        given = [f"{name}={port}" for name, port in ports.items()]
        result = make("up", f"STATE={tmp_path / 'state'}", f"FOLDER={tmp_path / 'up'}", *given)
    assert result.returncode != 0
    assert "(dashboard) is taken" in result.stderr
    assert not (tmp_path / "state").exists()
