"""The folder of a build in a store that others build into as well."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.building.workdir import workdir


def made_by(pid: int, store: Path, monkeypatch: pytest.MonkeyPatch, host: str | None = None) -> Path:
    """The folder that a build by that process leaves when it is killed; on another host, if one is named."""
    with monkeypatch.context() as there:
        there.setattr("os.getpid", lambda: pid)
        if host is not None:
            there.setattr("socket.gethostname", lambda: host)
        with workdir(store) as folder:
            pass
    (folder / "extra").mkdir(parents=True)
    return folder


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_killed_builds_left_is_swept_but_not_what_a_running_one_has(
    ended: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = made_by(os.getppid(), tmp_path, monkeypatch)
    made_by(ended, tmp_path, monkeypatch)
    with workdir(tmp_path) as own:
        assert set(tmp_path.iterdir()) == {running, own}
    assert set(tmp_path.iterdir()) == {running}


def test_a_build_on_another_machine_is_not_taken_for_a_dead_one_until_a_day_has_gone(
    ended: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = made_by(ended, tmp_path, monkeypatch, host="another")
    with workdir(tmp_path):
        assert elsewhere.exists()
    long_ago = time.time() - 25 * 3600
    os.utime(elsewhere, (long_ago, long_ago))
    with workdir(tmp_path):
        assert not elsewhere.exists()


def test_folders_that_no_build_made_are_left_alone(tmp_path: Path) -> None:
    names = {".building-x", ".building-", f".building-01234567-{10**30}-abc", ".building-12-abc"}
    for name in names:
        (tmp_path / name).mkdir()
    with workdir(tmp_path):
        pass
    assert {item.name for item in tmp_path.iterdir()} == names
