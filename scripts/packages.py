"""Optional packages: installed when they are first needed, into the environment that `make setup` made."""

import importlib
import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement

from scripts.console import UserError, out, step

_ROOT: Final = Path(__file__).parents[1]
_PROJECT: Final = _ROOT / "pyproject.toml"
_MARK: Final = ".complete"  # what `make setup` leaves in its environment


def require(*extras: str, why: str) -> None:
    """Have the packages of these extras; install what is missing where `make setup` made the environment.

    Args:
        extras: of pyproject.toml.
        why: what needs them, for people: "`explain`" say.

    Raises:
        UserError: they are missing and this environment is the user's own, or pip cannot install them.
    """
    wanted = missing(*extras)
    if not wanted:
        return
    names = ", ".join(sorted({requirement.name for requirement in wanted}))
    if not (Path(sys.prefix) / _MARK).exists():
        raise UserError(f"{why} needs {names}; install them: pip install {' '.join(map(repr, map(str, wanted)))}")
    step(f"installing {names}, which {why} needs")
    # the base is named along with them, so that pip leaves its versions as they are
    pinned = [str(requirement) for requirement in _requirements(_project()["dependencies"])]
    quiet = [] if out.is_terminal else ["--quiet"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        *quiet,
        "--disable-pip-version-check",
        *map(str, wanted),
        *pinned,
    ]
    if subprocess.run(command, env=os.environ | {"PIP_NO_INPUT": "1"}, check=False).returncode != 0:
        raise UserError(f"pip could not install {names}; see above")
    importlib.invalidate_caches()


def missing(*extras: str) -> list[Requirement]:
    """The requirements of these extras that this environment does not fulfil; none where there is no pyproject.toml.

    A container's image has everything that its programs import, and no pyproject.toml.
    """
    if not _PROJECT.exists():
        return []
    optional = _project()["optional-dependencies"]
    wanted = [requirement for extra in extras for requirement in _requirements(optional[extra])]
    return [requirement for requirement in wanted if not _is_installed(requirement)]


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads(_PROJECT.read_text())["project"]
    return project


def _requirements(lines: list[str]) -> list[Requirement]:
    return [Requirement(line) for line in lines]


def _is_installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False
