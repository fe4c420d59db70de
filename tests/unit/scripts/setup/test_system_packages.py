import os
import shutil
import subprocess

import pytest

from scripts.console import UserError
from scripts.setup import system_packages
from scripts.setup.system_packages import PACKAGES, main, missing


class Machine:
    """A machine with some programs, on which apt-get is only noted down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs: set[str] = set()
        self.commands: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.fails_at = ""
        monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in self.programs else None)
        monkeypatch.setattr(subprocess, "run", self.run)

    def run(self, command: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        self.environments.append(env)
        failed = bool(self.fails_at) and self.fails_at in command
        return subprocess.CompletedProcess(command, int(failed), "", "E: no such package\n" if failed else "")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(system_packages, "PACKAGES", {"prometheus": "prometheus", "promtool": "prometheus", "x": "x11"})
    return Machine(monkeypatch)


def be(user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)


def test_every_program_has_a_package() -> None:
    assert PACKAGES
    assert all(PACKAGES.values())


def test_what_is_missing_is_what_is_not_on_the_path(machine: Machine) -> None:
    machine.programs = {"prometheus"}
    assert missing() == {"promtool": "prometheus", "x": "x11"}


def test_nothing_missing_means_nothing_to_do(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.programs = {"prometheus", "promtool", "x", "apt-get"}
    main()
    assert machine.commands == []
    assert "all system programs are there" in capsys.readouterr().out


def test_root_on_debian_gets_what_is_missing_and_no_service_is_started(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.programs = {"apt-get"}
    be(0, monkeypatch)
    main()
    update, install = machine.commands
    assert update[:2] == ["apt-get", "update"]
    assert install[:2] == ["apt-get", "install"]
    assert install[-2:] == ["prometheus", "x11"]
    assert [environment["RUNLEVEL"] for environment in machine.environments] == ["1", "1"]
    assert [environment["DEBIAN_FRONTEND"] for environment in machine.environments] == ["noninteractive"] * 2
    assert "installed prometheus, x11" in capsys.readouterr().out


@pytest.mark.parametrize(("programs", "user"), [({"apt-get"}, 1000), (set[str](), 0)])
def test_everybody_else_is_told_what_to_install(
    programs: set[str],
    user: int,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine.programs = programs
    be(user, monkeypatch)
    main()
    assert machine.commands == []
    assert "install: prometheus, x11 (Debian: apt-get install prometheus x11)" in capsys.readouterr().err


@pytest.mark.parametrize(("fails_at", "commands"), [("update", 1), ("install", 2)])
def test_a_failed_installation_is_told_in_apts_words(
    fails_at: str, commands: int, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.programs, machine.fails_at = {"apt-get"}, fails_at
    be(0, monkeypatch)
    with pytest.raises(UserError, match=rf"(?s)apt-get {fails_at}.* failed:.*no such package"):
        main()
    assert len(machine.commands) == commands
