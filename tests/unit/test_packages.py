"""What is shipped: the wheel, and what the container image copies.

The wheel carries the core (`classifier`), the command line, and what keeps, admits and serves archives: whoever
installs it can check, sign, serve and manage archives that were built elsewhere. The image carries the same without the
command line, whose place its entry point takes, `scripts.serving.container`. Neither carries what builds, measures or
harms a server, nor the tests.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.shipping.image import write_context
from tests.unit.test_makefile import ROOT

MODULES = {f"scripts/{name}.py" for name in ("__init__", "background", "console", "packages", "ports")}
SERVING = {
    "classifier",
    "scripts/admission",
    "scripts/archives",
    "scripts/exporter",
    "scripts/serving",
    "scripts/torchserve",
}
COMMAND_LINE = {"scripts/command_line"}
OF_A_CHECKOUT = {f"scripts/command_line/{name}.py" for name in ("demo", "reference")}  # they build, or write pages


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    result = subprocess.run(
        [*command, "--wheel-dir", str(folder), str(ROOT)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def in_image(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files that the image puts on Python's path."""
    folder = tmp_path_factory.mktemp("context")
    write_context(folder, [])
    return {str(path.relative_to(folder / "app")) for path in (folder / "app").rglob("*") if path.is_file()}


def of_checkout(folders: set[str]) -> set[str]:
    """Every file of these packages that git would keep, and the modules beside them."""
    found = set(MODULES)
    for folder in folders:
        root = ROOT / "handlers" if folder == "classifier" else ROOT
        found |= {str(path.relative_to(root)) for path in (root / folder).rglob("*") if is_kept(path)}
    return found


def is_kept(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


@pytest.mark.slow
def test_the_wheel_has_the_command_line_and_what_serves(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        found = {name for name in packed.namelist() if ".dist-info/" not in name}
    assert found == of_checkout(SERVING | COMMAND_LINE) - OF_A_CHECKOUT


@pytest.mark.slow
def test_the_wheels_command_line_has_the_verbs_that_it_can_run(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path)
    code = """
from scripts.command_line.program import _run, application, is_installed
from scripts.command_line.verbs import VERBS
there = [name for name, verb in VERBS.items() if is_installed(verb)]
for name in there:
    _run([name, "--help"])
print(*there)
"""
    *_, last = alone(tmp_path, code).splitlines()
    assert last.split() == [
        "key", "sign", "serve", "stop", "status", "logs", "token", "check-config",
        "register", "versions", "describe", "default", "scale", "unregister",
    ]  # fmt: skip


def test_the_image_has_what_serves_and_no_command_line_that_it_cannot_run(in_image: set[str]) -> None:
    assert in_image == of_checkout(SERVING)


def test_what_the_image_starts_imports_nothing_that_it_lacks(in_image: set[str], tmp_path: Path) -> None:
    """Its programs, from a copy of its files, in a Python that does not see the checkout."""
    write_context(tmp_path, [])
    code = "import scripts.serving.container, scripts.admission.verify; print(scripts.serving.container.__file__)"
    assert Path(alone(tmp_path / "app", code).strip()).is_relative_to(tmp_path)


def alone(folder: Path, code: str) -> str:
    """What code prints in this folder. Without `site`, no link leads from installed packages to the checkout."""
    installed = [path for path in sys.path if path.endswith("site-packages")]
    command = [sys.executable, "-S", "-c", f"import sys; sys.path += {installed!r}\n{code}"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout
