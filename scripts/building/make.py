"""Builds the archives of the store whose inputs have changed: `make archive`, `make archives`.

The inputs of an archive are compared by content: a digest of all of them lies beside it. Dates do not count, so a
changed file always causes a build, and a file with only a new date does not.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, get_args

from classifier.cpu import computes
from classifier.errors import UnusableError
from classifier.places import read_place, read_program
from classifier.recipe import Precision, Recipe, RuntimeName, read_recipe
from msgspec.structs import replace

from scripts.archives.format import Format, archive_name
from scripts.archives.runtimes import packages
from scripts.archives.store import STORE, model_in
from scripts.building.options import Options, TorchScriptMethod
from scripts.building.sources import files
from scripts.console import UserError, warn
from scripts.packages import require

RECIPES: Final = Path("recipes")
# The extras of pyproject.toml that the export to a runtime needs, besides those of the runtime itself.
_EXPORTERS: Final[dict[str, tuple[str, ...]]] = {
    "onnxruntime": ("export-onnx",),
    "openvino": ("export-onnx", "export-openvino"),
}
_HANDLERS: Final = Path(__file__).parents[2] / "handlers"
_SOURCES: Final = (_HANDLERS / "classifier", Path(__file__).parents[1] / "archives", Path(__file__).parent)


def archive(
    *,
    model: str | None = None,
    runtime: tuple[RuntimeName, ...] = (),
    precision: Precision = "float32",
    weights: str = "auto",
    torchscript: TorchScriptMethod = "trace",
    format_: Format = "zip-store",
    version: str | None = None,
    golden: Path | None = None,
    calibration: Path | None = None,
    file: Path | None = None,
    store: Path = STORE,
    recipes: Path = RECIPES,
) -> None:
    """Build archives, unless they are up to date.

    Args:
        model: the recipe's name; without it, the one model that lies in the store, vgg16 if there is none.
        runtime: runtimes to build for, one archive each; without it, those of eager and torchscript that it has.
        precision: the precision that the runtime computes in.
        weights: auto, pretrained (no archive without them), or the file of a state_dict.
        torchscript: whether the module is traced or scripted.
        format_: format of the archives; zip-store is a `.mar`.
        version: version of the archives, instead of the recipe's.
        golden: folder of pictures for the parity gate; scikit-image's without it.
        calibration: folder of pictures from which int8 chooses its scales; views of the golden set without it.
        file: the one archive to build, instead of model, runtime, precision, format and store.
        store: folder to write the archives into.
        recipes: folder of the recipes.
    """
    if file is not None:
        store = file.parent
        recipe, chosen = _named(file.name, recipes)
    else:
        recipe = recipe_file(model or model_in(store), recipes)
        chosen = [(name, precision, format_) for name in runtime or _usual(_read(recipe))]
    shared = Options(recipe=recipe, weights=weights, torchscript=torchscript, version=version, store=store)
    shared = replace(shared, golden=golden, calibration=calibration)
    for name, precise, packed in chosen:
        make(replace(shared, runtime=name, precision=precise, archive_format=packed))


def _usual(recipe: Recipe) -> list[RuntimeName]:
    """The runtimes to build for when none is named: eager and torchscript, or all that the recipe has if neither."""
    there = list(dict.fromkeys(variant.runtime for variant in recipe.archives))
    return [name for name in ("eager", "torchscript") if name in there] or there


def archives(
    *,
    model: str | None = None,
    weights: str = "auto",
    torchscript: TorchScriptMethod = "trace",
    format_: Format = "zip-store",
    version: str | None = None,
    golden: Path | None = None,
    calibration: Path | None = None,
    store: Path = STORE,
    recipes: Path = RECIPES,
) -> None:
    """Build every archive of the recipe that this processor computes; the first failure ends it.

    Args:
        model: the recipe's name; without it, the one model that lies in the store, vgg16 if there is none.
        weights: auto, pretrained (no archive without them), or the file of a state_dict.
        torchscript: whether the module is traced or scripted.
        format_: format of the archives; zip-store is a `.mar`.
        version: version of the archives, instead of the recipe's.
        golden: folder of pictures for the parity gate; scikit-image's without it.
        calibration: folder of pictures from which int8 chooses its scales; views of the golden set without it.
        store: folder to write the archives into.
        recipes: folder of the recipes.
    """
    recipe = recipe_file(model or model_in(store), recipes)
    shared = Options(recipe=recipe, weights=weights, torchscript=torchscript, version=version, store=store)
    shared = replace(shared, golden=golden, calibration=calibration, archive_format=format_)
    for name, precise in variants_here(_read(recipe)):
        make(replace(shared, runtime=name, precision=precise))


def _named(name: str, recipes: Path) -> tuple[Path, list[tuple[RuntimeName, Precision, Format]]]:
    """The recipe, runtime, precision and format of the archive that has this name.

    Raises:
        UserError: no recipe has an archive of that name.
    """
    for path in sorted(recipes.glob("*.yaml")):
        recipe = _read(path)
        for variant in recipe.archives:
            for packed in get_args(Format):
                if archive_name(recipe.name, variant.runtime, variant.precision, packed) == name:
                    return path, [(variant.runtime, variant.precision, packed)]
    raise UserError(f"no recipe of {recipes} has an archive {name}")


def variants_here(recipe: Recipe) -> list[tuple[RuntimeName, Precision]]:
    """The runtimes and precisions of a recipe's archives that this processor computes; warns of those left out."""
    here = [variant for variant in recipe.archives if computes(variant.precision)]
    if len(here) < len(recipe.archives):
        warn("the archives in bfloat16 are left out: this processor has no instructions for it")
    return [(variant.runtime, variant.precision) for variant in here]


def recipe_file(model: str, recipes: Path = RECIPES) -> Path:
    """The recipe of a model.

    Raises:
        UserError: there is none; the message lists the recipes.
    """
    path = recipes / f"{model}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(other.name for other in recipes.glob("*.yaml"))) or "none"
        raise UserError(f"there is no recipe {path}; there are: {there}")
    return path


def ensure(model: str, *variants: tuple[RuntimeName, Precision], store: Path) -> None:
    """Build those of a model's archives that are not up to date, with the recipe's own settings.

    Raises:
        UserError: an archive cannot be built.
    """
    for runtime, precision in variants:
        make(Options(recipe=recipe_file(model), runtime=runtime, precision=precision, store=store))


def make(options: Options) -> Path:
    """Build an archive in a process of its own, if its inputs have changed; returns its path in the store.

    Raises:
        UserError: the archive cannot be built.
        OSError: what it was built from cannot be recorded.
    """
    recipe = _read(options.recipe)
    target = options.store / archive_name(recipe.name, options.runtime, options.precision, options.archive_format)
    record = target.with_name(f".{target.name}.inputs")
    inputs = digest(options.json(), _inputs(options, recipe))
    if target.exists() and _recorded(record) == f"{inputs} {content_digest(target)}\n":
        return target
    wanted = (*packages(options.runtime), *_EXPORTERS.get(options.runtime, ()), *_of_recipe(recipe))
    require(*wanted, requirements=recipe.requirements, why=f"building an archive for {options.runtime}")
    if _build(options) != 0:
        raise UserError(f"{target.name} is not built; see above")
    record.write_text(f"{inputs} {content_digest(target)}\n")
    return target


def _of_recipe(recipe: Recipe) -> tuple[str, ...]:
    """The extras of pyproject.toml that the model itself needs, whatever its archive's runtime."""
    if recipe.program is not None:
        return ("onnxruntime", "export-onnx") if read_program(recipe.program)[0] == "onnx" else ()
    return (recipe.library,) if recipe.library in ("timm", "transformers") else ()


def _recorded(record: Path) -> str | None:
    """What was recorded of the last build; None if there is nothing that can be read."""
    try:
        return record.read_text()
    except (OSError, UnicodeDecodeError):
        return None


def _build(options: Options) -> int:
    """Build in a process of its own; returns its exit code."""
    command = [sys.executable, "-m", "scripts.building", options.json().decode()]
    # with this hash seed the build need not start itself again
    return subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "0"}, check=False).returncode


def _read(recipe: Path) -> Recipe:
    try:
        return read_recipe(recipe)
    except (UnusableError, OSError) as error:
        raise UserError(str(error)) from error


def digest(settings: bytes, inputs: Iterable[Path]) -> str:
    """SHA-256 of settings and of the names and contents of files: the same as before means that nothing has changed."""
    found = hashlib.sha256(settings)
    for path in inputs:
        with path.open("rb") as stream:
            found.update(f"{path.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()


def _inputs(options: Options, recipe: Recipe) -> Iterator[Path]:
    """All that an archive is built from besides settings: recipe, labels, weights, pictures, code."""
    yield options.recipe
    folder, tuned = options.recipe.parent, options.tuned / f"{recipe.name}.yaml"
    yield from (path for path in (*_named_files(recipe, folder), tuned, Path(options.weights)) if path.is_file())
    yield from pictures(options.golden, options.calibration)
    yield from files(recipe)
    yield _HANDLERS / "image_classifier_handler.py"
    for folder in _SOURCES:
        yield from sorted(folder.rglob("*.py"))


def _named_files(recipe: Recipe, folder: Path) -> Iterator[Path]:
    """The files that a recipe names: labels, and weights or a program of the user's own."""
    if isinstance(recipe.labels, str):
        yield folder / recipe.labels
    place = read_program(recipe.program)[1] if recipe.program else read_place(recipe.weights or "")
    if place.scheme == "file":
        yield folder / place.path


def pictures(*folders: Path | None) -> Iterator[Path]:
    """The files of those folders that were named and are there."""
    for folder in folders:
        if folder is not None and folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.is_file())


def content_digest(archive: Path) -> str:
    """SHA-256 of an archive's bytes: it tells an archive from another one of the same name, and from a damaged one."""
    return digest(
        b"", [archive] if archive.is_file() else sorted(path for path in archive.rglob("*") if path.is_file())
    )
