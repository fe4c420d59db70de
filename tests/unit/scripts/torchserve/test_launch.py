"""The process of a TorchServe: its environment, and what is left when it does not start."""

import os
import socket
import sys
from pathlib import Path

import pytest

from scripts.console import UserError
from scripts.torchserve import launch
from scripts.torchserve.launch import Variables, environment, held, remove_temporary, temporary_folder

DEADLINE_S = 30


@pytest.mark.parametrize("failure", [UserError("no Java"), OSError("no space"), KeyboardInterrupt()])
def test_a_server_that_does_not_start_leaves_no_folder(
    failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def start() -> None:
        with temporary_folder() as folder:
            (folder / "socket").touch()
            raise failure

    with pytest.raises(type(failure)):
        start()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_server_that_starts_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder() as folder:
        pass
    assert list(tmp_path.iterdir()) == [folder.resolve()]
    remove_temporary(folder)


@pytest.fixture
def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files whose path leaves no room for the name of a socket."""
    folder = tmp_path / ("ö" * 60)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_a_folder_whose_path_is_too_long_for_sockets_has_a_short_link(long: Path) -> None:
    with temporary_folder() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / ".ts.sock.65535"))
    assert [path.name for path in long.iterdir()] == [folder.name]
    assert (long / folder.name / ".ts.sock.65535").is_socket()
    remove_temporary(folder)
    assert not folder.is_symlink()
    assert list(long.iterdir()) == []


def test_neither_link_nor_folder_is_left_of_a_server_that_does_not_start(long: Path, tmp_path: Path) -> None:
    with temporary_folder() as folder:
        variables = os.environ | {"TMPDIR": str(folder)}
        with pytest.raises(ZeroDivisionError), held(["true"], variables, tmp_path, tmp_path / "log") as process:
            _ = 1 / 0
    assert process.returncode == 1
    assert not folder.is_symlink()
    assert list(long.iterdir()) == []


def test_a_held_process_becomes_the_command_with_its_pid_and_without_input(tmp_path: Path) -> None:
    script = "import os, sys; print(os.getpid(), sys.argv[1:], repr(sys.stdin.read()), os.getcwd())"
    log = tmp_path / "log"
    with held([sys.executable, "-c", script, "a b", "$c"], dict(os.environ), tmp_path, log) as process:
        assert log.read_bytes() == b""
    assert process.wait(DEADLINE_S) == 0
    assert log.read_text() == f"{process.pid} ['a b', '$c'] '' {tmp_path}\n"


def test_the_environment_is_the_inherited_one_without_what_would_change_the_server(tmp_path: Path) -> None:
    inherited = {"PATH": "/bin", "LC_ALL": "C", "PYTHONPATH": "x", "TS_CONFIG_FILE": "y", "TMPDIR": "z"}
    expected = {
        "LC_ALL": "C.UTF-8",
        "PATH": "/bin",
        "JAVA_HOME": "/java",
        "TMPDIR": str(tmp_path),
        "TEMP": str(tmp_path),
        "PYTHONPATH": str(Path(launch.__file__).with_name("worker_site")),
    }
    found = environment(inherited, Path("/java"), tmp_path, tmp_path, Variables(console=True))
    assert found == expected | {"CONSOLE_LOG": "console"}


def test_workers_inherit_the_form_that_the_server_was_given_and_no_other(tmp_path: Path) -> None:
    inherited = {"CLASSIFIER_ANSWERS": "stock"}
    given = environment(inherited, Path("/java"), tmp_path, tmp_path, Variables(answers="full"))
    assert given["CLASSIFIER_ANSWERS"] == "full"
    assert "CLASSIFIER_ANSWERS" not in environment(inherited, Path("/java"), tmp_path, tmp_path, Variables())


def test_workers_inherit_the_request_log_that_the_server_was_given_and_no_other(tmp_path: Path) -> None:
    inherited = {"CLASSIFIER_REQUEST_LOG": "/elsewhere", "CLASSIFIER_REQUEST_LOG_FORM": "x"}
    given = environment(inherited, Path("/java"), tmp_path, tmp_path / "logs", Variables(log="json"))
    assert given["CLASSIFIER_REQUEST_LOG"] == str(tmp_path / "logs")
    assert given["CLASSIFIER_REQUEST_LOG_FORM"] == "json"
    assert "CLASSIFIER_REQUEST_LOG" not in environment(inherited, Path("/java"), tmp_path, tmp_path, Variables())
