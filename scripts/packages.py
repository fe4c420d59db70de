"""Optional packages: installed when they are first needed, into the environment that `make setup` made."""

import importlib
import importlib.metadata
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

from packaging.requirements import InvalidRequirement, Requirement

from scripts.console import UserError, out, step

_ROOT: Final = Path(__file__).parents[1]
_PROJECT: Final = _ROOT / "pyproject.toml"
# Packages that carry the same module, of which pip would put the one over the other.
_SISTERS: Final = {"onnxruntime": ("onnxruntime-gpu",)}
_DEVELOPING: Final = "dev"  # the extra that names all others
_MARK: Final = ".complete"  # what `make setup` leaves in its environment


def require(*extras: str, requirements: Sequence[str] = (), why: str) -> None:
    """Have the packages of these extras; install what is missing where `make setup` made the environment.

    Args:
        extras: of pyproject.toml.
        requirements: further ones, of a recipe of the user's own; never those of an archive, which may be a stranger's.
        why: what needs them, for people: "`explain`" say.

    Raises:
        UserError: they are missing and this environment is the user's own, or pip cannot install them.
    """
    wanted = [*missing(*extras), *lacking(requirements)]
    if not wanted:
        return
    names = ", ".join(sorted({requirement.name for requirement in wanted}))
    if not (Path(sys.prefix) / _MARK).exists():
        raise UserError(f"{why} needs {names}; install them: pip install {' '.join(map(repr, map(str, wanted)))}")
    step(f"installing {names}, which {why} needs")
    if subprocess.run(_pip(wanted), env=os.environ | {"PIP_NO_INPUT": "1"}, check=False).returncode != 0:
        raise UserError(f"pip could not install {names}; see above")
    importlib.invalidate_caches()


def _pip(wanted: list[Requirement]) -> list[str]:
    """The command that installs them. What is here already is named along with them, so that pip leaves it as it is."""
    project = _project()
    extras = [lines for name, lines in project["optional-dependencies"].items() if name != _DEVELOPING]
    known = _requirements([*project["dependencies"], *chain(*extras)])
    kept = {str(requirement) for requirement in known if _has(requirement.name, requirement)}
    quiet = [] if out.is_terminal else ["--quiet"]
    command = [sys.executable, "-m", "pip", "install", *quiet, "--disable-pip-version-check"]
    return [*command, *map(str, wanted), *sorted(kept)]


def missing(*extras: str) -> list[Requirement]:
    """The requirements of these extras that this environment does not fulfil; none where there is no pyproject.toml.

    A container's image has everything that its programs import, and no pyproject.toml.
    """
    if not _PROJECT.exists():
        return []
    optional = _project()["optional-dependencies"]
    wanted = [requirement for extra in extras for requirement in _requirements(optional[extra])]
    return [requirement for requirement in wanted if not _is_installed(requirement)]


def lacking(requirements: Sequence[str]) -> list[Requirement]:
    """Those of the requirements that this environment does not fulfil.

    Raises:
        UserError: one is not spelt as pip takes it.
    """
    try:
        wanted = _requirements(list(requirements))
    except InvalidRequirement as error:
        raise UserError(f"requirements: {error}") from error
    return [requirement for requirement in wanted if not _is_installed(requirement)]


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads(_PROJECT.read_text())["project"]
    return project


def _requirements(lines: list[str]) -> list[Requirement]:
    return [Requirement(line) for line in lines]


def _is_installed(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True  # it is not for this Python or system
    return any(_has(name, requirement) for name in (requirement.name, *_SISTERS.get(requirement.name, ())))


def _has(name: str, requirement: Requirement) -> bool:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return name != requirement.name or requirement.specifier.contains(version, prereleases=True)
