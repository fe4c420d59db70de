"""The start of a server up to the moment at which TorchServe begins: nothing here waits for a worker."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from scripts.console import UserError
from scripts.torchserve.config import CONFIG_FILE, read_config, with_free_ports
from scripts.torchserve.server import Server, find, record, start, stop
from tests.unit.conftest import FakeTorchServe

ROOT = Path(__file__).parents[4]
DEADLINE_S = 30

# Starts a server, and is killed at the worst moment: its process is there, and nobody can know it yet.
KILLED = """
import os, signal, sys
from pathlib import Path
from scripts.torchserve import server
from scripts.torchserve.config import read_config, with_free_ports

def killed(found, state):
    Path(sys.argv[2]).write_text(str(found.pid))
    os.kill(os.getpid(), signal.SIGKILL)

server.record = killed
config = with_free_ports(read_config()) | {"model_store": "/nowhere"}
server.start(config, [], Path(sys.argv[1]))
"""


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def wait_ended(pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not ended(pid):
        assert time.monotonic() < deadline, f"process {pid} goes on"
        time.sleep(0.05)


def test_a_launcher_that_is_killed_before_it_recorded_the_server_leaves_none(tmp_path: Path, temporary: Path) -> None:
    state, noted = tmp_path / "state", tmp_path / "pid"
    result = subprocess.run(
        [sys.executable, "-c", KILLED, state, noted], cwd=ROOT, env=os.environ | {"TMPDIR": str(temporary)}, check=False
    )
    assert result.returncode == -signal.SIGKILL
    wait_ended(int(noted.read_text()))
    assert find(state) is None
    assert list(temporary.iterdir()) == []
    assert (state / "logs/console.log").read_bytes() == b""  # TorchServe has not even begun


def test_a_server_that_cannot_be_recorded_is_not_started(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []

    def refused(server: Server, _: Path) -> None:
        pids.append(server.pid)
        raise OSError("No space left on device")

    monkeypatch.setattr("scripts.torchserve.server.record", refused)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    config = with_free_ports(read_config(ROOT / CONFIG_FILE)) | {"model_store": str(tmp_path)}
    with pytest.raises(OSError, match="No space left"):
        start(config, [], tmp_path / "state")
    assert not psutil.pid_exists(pids[0])
    assert list(temporary.iterdir()) == []


def test_a_server_is_on_record_before_it_begins_and_stop_ends_it(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    config = with_free_ports(read_config(ROOT / CONFIG_FILE)) | {"model_store": str(tmp_path)}
    state = tmp_path / "state"
    server = start(config, [], state)
    try:
        assert find(state) == server
        with pytest.raises(UserError, match="a server is running already"):
            start(config, [], state)
    finally:
        begin = time.monotonic()
        assert stop(state)
    assert time.monotonic() - begin < 10  # it does not wait for a Java that is not there yet
    assert [process for process in psutil.process_iter() if group_of(process.pid) == server.pid] == []
    assert list(temporary.iterdir()) == []
    assert find(state) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"{"])
def test_a_damaged_record_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "server.json").write_bytes(content)
    for use in (find, stop):
        with pytest.raises(UserError, match=r"server\.json is damaged .* remove the file"):
            use(tmp_path)


def test_a_record_is_replaced_in_one_step(tmp_path: Path, torchserve: FakeTorchServe) -> None:
    """Whoever reads the last one meanwhile reads it to its end."""
    record(torchserve.server, tmp_path)
    before = (tmp_path / "server.json").read_bytes()
    with (tmp_path / "server.json").open("rb") as reading:
        record(replace(torchserve.server, temporary="another"), tmp_path)
        assert reading.read() == before
    assert b"another" in (tmp_path / "server.json").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["server.json"]
