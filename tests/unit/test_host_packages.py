import os
import platform
import sys
from pathlib import Path

import pytest

from tests.integration import engine, host_packages
from tests.integration.host_packages import MOUNTED, apt_configuration, mounts, pip_configuration

LISTED = """\
:env:.find-links='/home/wheels'
:env:.timeout='60'
global.cert='/home/ca.crt'
global.extra-index-url='file:///home/packages/simple https://example.org/simple'
global.find-links='/home/older'
global.target='/home/elsewhere'
install.no-index='true'
"""


def test_a_build_has_pips_sources_with_this_machines_paths_mounted_elsewhere() -> None:
    written, found = pip_configuration(LISTED)
    assert set(found.values()) == {"/home/ca.crt", "/home/packages", "/home/wheels"}
    where = {here: target for target, here in found.items()}
    assert set(written.splitlines()) == {
        "[global]",
        f"cert = {where['/home/ca.crt']}",
        f"extra-index-url = file://{where['/home/packages']}/simple https://example.org/simple",
        f"find-links = {where['/home/wheels']}",  # the environment's is stronger
        "no-index = true",
        "timeout = 60",
    }
    assert all(target.startswith(f"{MOUNTED}/") for target in found)


def test_a_path_named_twice_is_mounted_once() -> None:
    written, found = pip_configuration("global.find-links='/a file:///a /b'\n")
    assert found == {f"{MOUNTED}/0": "/a", f"{MOUNTED}/1": "/b"}
    assert written == f"[global]\nfind-links = {MOUNTED}/0 file://{MOUNTED}/0 {MOUNTED}/1\n"


def test_without_settings_pip_is_as_it_comes() -> None:
    assert pip_configuration("") == ("[global]\n", {})


def test_a_build_has_apts_proxy_and_none_of_its_indexes() -> None:
    dumped = 'Acquire "";\nAcquire::http::Proxy "http://127.0.0.1:3128";\nAcquire::IndexTargets::deb::DEP-11 "";\n'
    assert apt_configuration(dumped) == 'Acquire::http::Proxy "http://127.0.0.1:3128";\n'


def answers(monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """What this machine's programs would say."""
    monkeypatch.setattr(host_packages, "_output", lambda *command: programs[Path(command[0]).name.replace("-", "_")])


def test_settings_are_written_for_their_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "pip")
    sources = "contrib Debian http://127.0.0.1/other/\nmain Debian http://127.0.0.1/debian/\n"
    answers(monkeypatch, pip="global.no-index='1'\n", apt_get=sources, apt_config="")
    found = mounts(tmp_path / "packages", "bookworm")
    assert Path(found["/etc/apt/sources.list"]).read_text() == "deb http://127.0.0.1/debian/ bookworm main\n"
    assert Path(found["/etc/pip.conf"]).read_text() == "[global]\nno-index = 1\n"
    assert {Path(path).stat().st_mode & 0o777 for path in found.values()} == {0o600}
    assert host_packages.volumes(found | {"/gone": str(tmp_path / "gone")}) == [
        f"--volume={here}:{target}:ro" for target, here in found.items()
    ]


@pytest.mark.parametrize(("system", "user", "gone", "sources", "said"), [
    ("Darwin", 0, set(), "main Debian m", "containers need Linux"),
    ("Linux", 1000, set(), "main Debian m", "as root"),
    ("Linux", 0, {"podman", "wrk"}, "main Debian m", "podman not installed; `make setup-system` says how"),
    ("Linux", 0, set(), "main Ubuntu m", "apt has no source of Debian's packages"),
])  # fmt: skip
def test_a_machine_without_containers_says_why(
    system: str, user: int, gone: set[str], sources: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(engine, "missing", lambda: dict.fromkeys(gone, "package"))
    answers(monkeypatch, apt_get=sources)
    assert said in str(engine.lacking())


def test_a_machine_with_all_of_it_has_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(engine, "missing", dict)
    answers(monkeypatch, apt_get="main Debian m")
    assert engine.lacking() is None
