"""The Python files that an eager archive takes along: the architecture's module, and what it imports beside it."""

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Final

from classifier.own_code import OF_EVERY_ARCHIVE
from classifier.recipe import Recipe

from scripts.building.clean import INSTALLED
from scripts.console import UserError

NOT_PACKED: Final = ("__pycache__", ".*", "*.pyc")  # of a package: Python's caches and hidden files


def sources(recipe: Recipe) -> list[Path]:
    """The files and folders to pack, each a top-level module or package beside the architecture's, that one first.

    Imports are followed in the source, those inside functions too. What is installed is not packed: it is declared.
    None for an architecture of a library, or a program.

    Raises:
        UserError: there is no such module, or its source cannot be parsed.
    """
    if recipe.architecture is None or recipe.library is not None:
        return []
    top = recipe.architecture.partition(":")[0].partition(".")[0]
    first = _place(top)
    if first is None:
        raise UserError(f"architecture: there is no module {top} in handlers/")
    if _is_installed(first):
        return []
    found = {top: first}
    waiting = [top]
    while waiting:
        for name in sorted(_imported(found[waiting.pop()])):
            place = None if name in found or name in OF_EVERY_ARCHIVE else _place(name)
            if place is not None and place.parent == first.parent:
                found[name] = place
                waiting.append(name)
    return list(found.values())


def files(recipe: Recipe) -> list[Path]:
    """The single files that are packed of `sources`, sorted within each: a package's code may read the others."""
    return [path for source in sources(recipe) for path in ([source] if source.is_file() else _packed_files(source))]


def architecture_digest(recipe: Recipe) -> str:
    """SHA-256 of what decides the architecture: its name, its arguments and the content of its files."""
    found = hashlib.sha256(f"{recipe.architecture} {sorted(recipe.arguments.items())}".encode())
    for path in files(recipe):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def _place(name: str) -> Path | None:
    """The file of a top-level module, or the folder of a package; None for what has none, as built-in modules."""
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations is not None:
        folders = list(spec.submodule_search_locations)
        return Path(folders[0]) if folders else None
    return Path(spec.origin) if spec.origin is not None and spec.has_location else None


def _is_installed(path: Path) -> bool:
    return any(part in INSTALLED for part in path.parts)


def _imported(source: Path) -> set[str]:
    """The top-level names that a module or package imports."""
    found: set[str] = set()
    for path in [source] if source.is_file() else _python_files(source):
        try:
            tree = ast.parse(path.read_bytes(), str(path))
        except SyntaxError as error:
            raise UserError(f"{path}:{error.lineno}: {error.msg}") from error
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    return found


def _packed_files(folder: Path) -> Iterator[Path]:
    """The files of a package, without what `NOT_PACKED` names."""
    for path in sorted(folder.rglob("*")):
        names = path.relative_to(folder).parts
        if path.is_file() and not any(fnmatch(name, pattern) for name in names for pattern in NOT_PACKED):
            yield path


def _python_files(folder: Path) -> Iterator[Path]:
    return (path for path in _packed_files(folder) if path.suffix == ".py")
