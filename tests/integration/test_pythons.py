"""Every Python that the README names, from an empty environment to an answered request."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.building.golden import photograph
from tests.integration.conftest import CHECKOUT

# The first is what all other tests run on; whoever has the others may try them.
FURTHER = ("3.12", "3.13")
MODEL = "efficientnet_lite0"
DEADLINE_S = 1800


def python(version: str) -> Path | None:
    """A Python of that version, on the path or among pyenv's, if one runs."""
    name = f"python{version}"
    homes = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found = [shutil.which(name), *sorted(homes.glob(f"{version}.*/bin/{name}"))]
    return next((Path(program) for program in found if program is not None and runs(program)), None)


def runs(program: Path | str) -> bool:
    """Whether it is more than pyenv's notice that there is no such version."""
    return subprocess.run([program, "-c", "import venv"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A copy of this checkout, as git would give it to somebody else; the gigabytes installed there go again."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    folder = tmp_path / "checkout"
    for name in filter(None, listed.stdout.split("\0")):
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, folder / name)
    yield folder
    shutil.rmtree(folder / ".venv", ignore_errors=True)


def make(folder: Path, *arguments: str) -> str:
    """What make prints there, as in a fresh shell."""
    variables = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL")}
    result = subprocess.run(
        ["make", *arguments],  # noqa: S607 - the user's own make
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.mark.thorough
@pytest.mark.optional_program
@pytest.mark.timeout(DEADLINE_S)
@pytest.mark.parametrize("version", FURTHER)
def test_a_further_python_sets_up_builds_serves_and_answers(version: str, checkout: Path) -> None:
    program = python(version)
    if program is None:
        pytest.skip(f"Python {version} is not installed")
    make(checkout, "setup", f"PYTHON={program}")
    assert (checkout / ".venv" / "bin" / f"python{version}").exists()
    make(checkout, "archive", f"MODEL={MODEL}", "RUNTIME=eager")
    try:
        make(checkout, "serve", f"MODELS={MODEL}-eager", "PORTS=free")
        assert "Egyptian cat" in make(checkout, "predict", f"MODEL={MODEL}", f"IMAGE={photograph('chelsea.png')}")
    finally:
        make(checkout, "stop")


def test_the_readme_names_the_pythons_that_are_tried() -> None:
    (named,) = re.findall(r"You need Linux, `make` and Python (.*?)\. ", (CHECKOUT / "README.md").read_text())
    assert re.findall(r"3\.\d+", named) == ["3.11", *FURTHER]
