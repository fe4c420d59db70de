"""Optional packages are installed when first needed, and only where `make setup` made the environment.

The package is one that the test makes, in a folder that pip takes for its only index.
"""

import importlib.metadata
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from scripts import packages
from scripts.console import UserError, out
from scripts.packages import lacking, missing, require

PROJECT = """
[project]
dependencies = ["packaging"]
[project.optional-dependencies]
light = ["packaging"]
fake = ["fake-classifier==1.0"]
newer = ["packaging>=9999"]
elsewhere = ["fake-classifier==1.0; sys_platform == 'nowhere'"]
onnxruntime = ["fake-onnx==1.0"]
dev = ["torchserve-image-classifier[fake]"]
"""


def wheel(folder: Path, name: str, version: str) -> Path:
    """The smallest wheel that pip installs: one module without content."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    path = folder / f"{module}-{version}-py3-none-any.whl"
    files = {
        f"{module}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as packed:
        for file, content in (files | {f"{info}/RECORD": record}).items():
            packed.writestr(file, content)
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose pyproject.toml has the extras above."""
    path = tmp_path / "pyproject.toml"
    path.write_text(PROJECT)
    monkeypatch.setattr(packages, "_PROJECT", path)
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have run; each is as good as done."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def environment(folder: Path, monkeypatch: pytest.MonkeyPatch, *, marked: bool) -> None:
    """Be in an environment that `make setup` made, or that somebody else did."""
    if marked:
        (folder / ".complete").touch()
    monkeypatch.setattr(sys, "prefix", str(folder))


@pytest.mark.usefixtures("project")
def test_what_is_missing_is_what_is_not_installed_or_of_another_version() -> None:
    assert missing() == missing("light") == []
    assert missing("fake", "light") == [Requirement("fake-classifier==1.0")]
    assert missing("newer") == [Requirement("packaging>=9999")]


@pytest.mark.usefixtures("project")
def test_what_is_not_for_this_system_is_not_missing() -> None:
    assert missing("elsewhere") == []


@pytest.mark.usefixtures("project")
def test_a_sister_package_of_another_name_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip would put onnxruntime over onnxruntime-gpu, whose module has the same name."""
    monkeypatch.setattr(packages, "_SISTERS", {"fake-onnx": ("packaging",)})
    assert missing("onnxruntime") == []


def test_without_a_pyproject_as_in_a_container_nothing_is_missing(
    project: Path, asked: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.unlink()
    environment(tmp_path, monkeypatch, marked=True)
    require("fake", why="`try`")
    assert asked == []


@pytest.mark.usefixtures("project")
def test_a_users_own_environment_stays_as_it_is_and_the_command_is_said(
    asked: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(tmp_path, monkeypatch, marked=False)
    with pytest.raises(UserError) as refused:
        require("fake", why="`try`")
    assert str(refused.value) == ("`try` needs fake-classifier; install them: pip install 'fake-classifier==1.0'")
    assert asked == []


@pytest.mark.usefixtures("project")
def test_nothing_missing_says_and_does_nothing(
    asked: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment(tmp_path, monkeypatch, marked=True)
    require("light", why="`try`")
    assert (asked, capsys.readouterr().out) == ([], "")


@pytest.mark.usefixtures("project")
def test_one_line_says_what_is_installed_and_why_and_what_is_there_keeps_its_version(
    asked: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment(tmp_path, monkeypatch, marked=True)
    require("fake", why="`try`")
    assert capsys.readouterr().out == "· installing fake-classifier, which `try` needs\n"
    ((*_, wanted, kept),) = asked
    assert (wanted, kept) == ("fake-classifier==1.0", "packaging")


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("terminal", [False, True])
def test_pip_shows_its_progress_on_a_terminal_only(
    terminal: bool, asked: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(tmp_path, monkeypatch, marked=True)
    monkeypatch.setattr(out, "_force_terminal", terminal)
    require("fake", why="`try`")
    (command,) = asked
    assert ("--quiet" in command) is not terminal


INSTALLED = f"packaging=={importlib.metadata.version('packaging')}"


@pytest.mark.usefixtures("project")
def test_a_recipes_requirements_are_installed_with_the_extras(
    asked: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(tmp_path, monkeypatch, marked=True)
    require("fake", requirements=[INSTALLED, "fake-einops==0.8.2"], why="`try`")
    ((*_, first, second, kept),) = asked
    assert (first, second, kept) == ("fake-classifier==1.0", "fake-einops==0.8.2", "packaging")


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    "requirement", [INSTALLED, "packaging", "fake-einops==0.8.2; sys_platform == 'nowhere'", "Packaging>1"]
)
def test_requirements_that_are_there_or_for_another_system_are_not_asked_for(
    requirement: str, asked: list[list[str]]
) -> None:
    require(requirements=[requirement], why="`try`")
    assert asked == lacking([requirement]) == []


@pytest.mark.usefixtures("project")
def test_another_version_of_a_requirement_is_lacking() -> None:
    assert [str(found) for found in lacking(["packaging==0.1"])] == ["packaging==0.1"]


@pytest.mark.usefixtures("project")
def test_in_a_users_own_environment_the_requirements_are_said_not_installed(
    asked: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(tmp_path, monkeypatch, marked=False)
    with pytest.raises(UserError, match=r"`try` needs fake-einops; install them: pip install 'fake-einops==0\.8\.2'"):
        require(requirements=["fake-einops==0.8.2"], why="`try`")
    assert asked == []


def test_a_requirement_that_pip_would_not_take_is_refused() -> None:
    with pytest.raises(UserError, match=r"^requirements: "):
        require(requirements=["einops =? 0.8.2"], why="`try`")


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_pip_installs_it_into_the_marked_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "environment"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    environment(home, monkeypatch, marked=True)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    wheel(tmp_path / "index", "packaging", importlib.metadata.version("packaging"))
    with pytest.raises(UserError, match="pip could not install fake-classifier; see above"):
        require("fake", why="`try`")
    wheel(tmp_path / "index", "fake-classifier", "1.0")
    require("fake", why="`try`")
    assert subprocess.run([python, "-c", "import fake_classifier"], check=False).returncode == 0
