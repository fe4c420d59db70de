"""Runs in a process of its own: loads an unpacked archive where only what it declares can be imported.

Arguments: the archive's folder; a JSON file with the names of the top-level modules that the declared packages carry;
the pixels, uint8 [N,H,W,3] (`.npy`); where to write the outputs, float32 [N,classes] (`.npy`). Of the project it
imports what lies in the folder, and nothing else. An error is written to standard output as JSON:
`{"error": …, "missing": …}`.
"""

import json
import re
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

INSTALLED = ("site-packages", "dist-packages")


class Declared(PathFinder):
    """Finds modules as Python does, but of the installed ones only the declared, as if the others were not there."""

    names: frozenset[str] = frozenset()  # of top-level modules and packages
    distributions: frozenset[str] = frozenset()  # by their normalised names

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec; None for one of a package that is not declared."""
        spec = super().find_spec(fullname, path, target)
        if spec is None or fullname.partition(".")[0] in cls.names or not _is_installed(spec):
            return spec
        return None

    @classmethod
    def find_distributions(cls, *args: Any, **kwargs: Any) -> Iterable[Any]:
        """The metadata of the declared packages: libraries ask it for what they may use."""
        return [
            found
            for found in super().find_distributions(*args, **kwargs)
            if re.sub(r"[-_.]+", "-", found.name).lower() in cls.distributions
        ]


def _is_installed(spec: ModuleSpec) -> bool:
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return any(part in INSTALLED for place in places for part in Path(place).parts)


def _is_pythons(folder: Path) -> bool:
    """Whether a folder is one of the standard library's, or one that packages are installed into."""
    library = Path(sysconfig.get_path("stdlib"))
    return folder.is_relative_to(library) or any(part in INSTALLED for part in folder.parts)


def _outputs(folder: Path, pixels: Path, target: Path) -> None:
    import numpy as np
    from classifier.pipeline import Classifier

    np.save(target, Classifier.load(folder).logits(np.load(pixels)))


def main() -> None:
    """Load the archive and compute."""
    folder, declared, pixels, target = (Path(item) for item in sys.argv[1:])
    content = json.loads(declared.read_text())
    Declared.names, Declared.distributions = frozenset(content["names"]), frozenset(content["distributions"])
    # without the finders and the paths of packages that were installed to be developed, such as this project
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Declared]
    sys.path[:] = [str(folder), *(entry for entry in sys.path if _is_pythons(Path(entry)))]
    sys.path_importer_cache.clear()
    try:
        _outputs(folder, pixels, target)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ModuleNotFoundError):
            cause = cause.__cause__ or cause.__context__
        said = {"error": f"{type(error).__name__}: {error}", "missing": cause.name if cause is not None else None}
        sys.stdout.write("\n" + json.dumps(said) + "\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
