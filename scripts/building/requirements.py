"""The packages that an archive needs beyond those of every worker, and all that they bring along."""

from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Final

from classifier.recipe import Recipe, RuntimeName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from scripts.console import UserError

PROJECT: Final = "torchserve-image-classifier"
_EXPLAIN: Final = "explain"  # the project's extra that workers of every runtime may use


def requirements_of(recipe: Recipe, runtime: RuntimeName) -> list[str]:
    """What a worker imports for the architecture: the recipe's requirements and its library, by exact versions.

    Only an eager archive runs the architecture's Python; the others are graphs, and need none of it.

    Raises:
        UserError: a requirement is not spelt as pip takes it, or is not what is installed here and will be tested.
    """
    if runtime != "eager":
        return []
    asked = _for_here(recipe.requirements)
    for requirement in asked:
        installed = _installed(requirement.name).version
        if not requirement.specifier.contains(installed, prereleases=True):
            raise UserError(f"requirements: {requirement}, but {installed} is installed: pip install {requirement}")
    library = recipe.library
    if library is None or any(canonicalize_name(requirement.name) == library for requirement in asked):
        return list(recipe.requirements)
    return [*recipe.requirements, pinned(library)]


def pinned(package: str) -> str:
    """An installed package as a requirement.

    Its version has no kind of machine in it, as 0.29.1+cpu has: PyPI does not know those.
    """
    return f"{package}=={Version(_installed(package).version).public}"


def _for_here(requirements: Iterable[str]) -> list[Requirement]:
    """The requirements whose markers are for this Python and system."""
    try:
        asked = [Requirement(text) for text in requirements]
    except InvalidRequirement as error:
        raise UserError(f"requirements: {error}") from error
    return [requirement for requirement in asked if requirement.marker is None or requirement.marker.evaluate()]


def packages(runtime: str, requirements: Iterable[str] = ()) -> dict[str, set[str]]:
    """The packages installed here that a worker of an archive may import, each with those that it needs itself.

    The project itself is among them; the archive carries its code.
    """
    graph: dict[str, set[str]] = {}
    waiting = [(PROJECT, frozenset({runtime, _EXPLAIN}))]
    asked = _for_here(requirements)
    waiting += [(canonicalize_name(item.name), frozenset(item.extras)) for item in asked]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        needed = _requirements(name, extras)
        graph.setdefault(name, set()).update(other for other, _ in needed)
        waiting += needed - seen
        seen |= needed
    graph[PROJECT] |= {canonicalize_name(item.name) for item in asked}
    return graph


@lru_cache
def modules(package: str) -> frozenset[str]:
    """The names of the top-level modules that an installed package carries."""
    found = _installed(package)
    if top := found.read_text("top_level.txt"):
        return frozenset(top.split())
    return frozenset(path.parts[0].partition(".")[0] for path in found.files or () if path.suffix != ".pth")


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise UserError(f"the archive needs {name}, which is not installed: pip install {name}") from error


def _requirements(name: str, extras: frozenset[str]) -> set[tuple[str, frozenset[str]]]:
    """The requirements of a package that are installed too, with their extras: a worker cannot import others."""
    found: set[tuple[str, frozenset[str]]] = set()
    for line in _installed(name).requires or ():
        requirement = Requirement(line)
        applies = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        )
        if applies and _is_installed(requirement.name):
            found.add((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
