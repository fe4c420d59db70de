"""The packages that an archive needs beyond those of every worker, and all that they bring along."""

from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Final

from classifier.recipe import Recipe, RuntimeName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from scripts.console import UserError

PROJECT: Final = "torchserve-image-classifier"
_EXPLAIN: Final = "explain"  # the project's extra that workers of every runtime may use


def requirements_of(recipe: Recipe, runtime: RuntimeName) -> list[str]:
    """What a worker imports for the architecture: the recipe's requirements and its library, by exact versions.

    Only an eager archive runs the architecture's Python; the others are graphs, and need none of it.

    Raises:
        UserError: a requirement is not spelt as pip takes it, or the library is not installed.
    """
    if runtime != "eager":
        return []
    for text in recipe.requirements:
        try:
            Requirement(text)
        except InvalidRequirement as error:
            raise UserError(f"requirements: {text}: {error}") from error
    library = recipe.library
    if library is None or any(canonicalize_name(Requirement(text).name) == library for text in recipe.requirements):
        return list(recipe.requirements)
    return [*recipe.requirements, f"{library}=={_installed(library).version}"]


def packages(runtime: str, requirements: Iterable[str] = ()) -> dict[str, set[str]]:
    """The packages installed here that a worker of an archive may import, each with those that it needs itself.

    The project itself is among them; the archive carries its code.
    """
    graph: dict[str, set[str]] = {}
    waiting = [(PROJECT, frozenset({runtime, _EXPLAIN}))]
    asked = [Requirement(text) for text in requirements]
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
