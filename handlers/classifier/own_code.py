"""An archive's own Python code, imported apart from all other code of the process.

A worker finds an archive's modules on its path, and nothing else of their names. A program that loads archives has
other modules of the same names: the project's own of today, or those of another archive. So the modules of each loaded
archive are imported as parts of a package of their own, and an import in them finds what the archive has first.
"""

import builtins
import importlib
import itertools
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

import msgspec

_PACKAGE: Final = "code_of_archive_"  # and a number: the name of the package that stands for an archive
OF_EVERY_ARCHIVE: Final = frozenset({"classifier", "image_classifier_handler"})  # the core: the one that runs counts
_numbers = itertools.count(1)


class OwnCode(msgspec.Struct, frozen=True, kw_only=True):
    """The code of one loaded archive."""

    package: str  # what its modules are parts of, in this process
    names: frozenset[str]  # its top-level modules and packages

    def has(self, module: str) -> bool:
        """Whether the archive has the module, or the package that it is in."""
        return module.partition(".")[0] in self.names

    def import_module(self, name: str) -> ModuleType:
        """Import one of the archive's modules by the name that it has in the archive.

        Raises:
            ModuleNotFoundError: the archive has no such module; or this one needs a module that cannot be found.
        """
        return importlib.import_module(f"{self.package}.{name}")


def own_code(folder: Path) -> OwnCode:
    """The code of an unpacked archive. Nothing of it is executed yet.

    Each call makes modules of its own: what lies in the folder now is what will be executed.
    """
    importlib.invalidate_caches()  # the folder may have been filled within the resolution of its time of change
    spec = ModuleSpec(f"{_PACKAGE}{next(_numbers)}", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    files = [path.relative_to(folder) for path in folder.rglob("*.py")]
    names = {path.stem if len(path.parts) == 1 else path.parts[0] for path in files}
    code = OwnCode(package=spec.name, names=frozenset(names - OF_EVERY_ARCHIVE))
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _loaded[spec.name] = code
    sys.modules[spec.name] = module_from_spec(spec)
    return code


_loaded: dict[str, OwnCode] = {}


def name_in_archive(name: str) -> str:
    """The name of a module as its archive has it, for messages."""
    package, _, inside = name.partition(".")
    return inside if package in _loaded else name


class _Finder(MetaPathFinder):
    """Finds the modules of loaded archives, in their folders only."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        code = _loaded.get(fullname.partition(".")[0])
        if code is None:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, code)
            spec.cached = None
        return spec


class _Loader(SourceFileLoader):
    """Executes a module of an archive. Its imports find what the archive has first, whenever they are executed.

    Python's cache of compiled modules, which an archive's digests do not cover, is neither read nor written.
    """

    def __init__(self, fullname: str, path: str, code: OwnCode) -> None:
        super().__init__(fullname, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        compiled: CodeType = self.source_to_code(self.get_data(path), path)
        return compiled

    def exec_module(self, module: ModuleType) -> None:
        # Python takes the function behind an import statement from here
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": _Import(self._code)}
        super().exec_module(module)


class _Import:
    """What an import statement calls in the modules of one archive."""

    def __init__(self, code: OwnCode) -> None:
        self._code = code

    def __call__(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the names that Python gives them
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if level == 0 and self._code.has(name):
            found = builtins.__import__(f"{self._code.package}.{name}", globals, locals, fromlist or (), 0)
            # the top one, though it may be imported only in part, where modules import each other
            return found if fromlist else sys.modules[f"{self._code.package}.{name.partition('.')[0]}"]
        found = builtins.__import__(name, globals, locals, fromlist or (), level)
        return self._importlib(found) if found is importlib else found

    def _importlib(self, real: ModuleType) -> ModuleType:
        """Python's importlib, whose `import_module` finds what the archive has first too."""
        copy = ModuleType(real.__name__, real.__doc__)
        copy.__dict__.update(vars(real), import_module=self._import_module)
        return copy

    def _import_module(self, name: str, package: str | None = None) -> ModuleType:
        own = not name.startswith(".") and self._code.has(name)
        return self._code.import_module(name) if own else importlib.import_module(name, package)
