"""Builds archives that are not there yet.

What an archive was built from is on record beside it, by content: dates do not count. If nothing has changed, nothing
is done here, and quickly; otherwise `release`, in a process of its own, decides what that means for the version.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from classifier.cpu import computes
from classifier.errors import UnusableError
from classifier.places import read_program
from classifier.recipe import Precision, Recipe, RuntimeName, read_recipe
from msgspec.structs import replace

from scripts.archives.runtimes import packages
from scripts.archives.store import find_archive, newest, versions_in
from scripts.building.gate import RefusedError
from scripts.building.inputs import code, named_files
from scripts.building.options import NEXT, Options
from scripts.building.record import content_digest, digest, pictures, read_record
from scripts.building.sources import files
from scripts.console import UserError, warn
from scripts.packages import require
from scripts.torchserve.server import STATE_FOLDER

RECIPES: Final = Path("recipes")
# The extras of pyproject.toml that the export to a runtime needs, besides those of the runtime itself.
_EXPORTERS: Final[dict[str, tuple[str, ...]]] = {
    "onnxruntime": ("export-onnx",),
    "openvino": ("export-onnx", "export-openvino"),
    "ncnn": ("export-ncnn",),
}


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


def ensure(model: str, *variants: tuple[RuntimeName, Precision], store: Path, recipes: Path = RECIPES) -> None:
    """Build those of a model's archives of which the store has no version, with the weights that its others have.

    An archive that is there is taken as it is: what it was built from was somebody's choice.

    Raises:
        UserError: an archive cannot be built, or the weights of the others are not to be had any more.
    """
    for runtime, precision in variants:
        options = Options(recipe=recipe_file(model, recipes), runtime=runtime, precision=precision, store=store)
        if newest(f"{model}-{runtime}" + ("" if precision == "float32" else f"-{precision}"), store) is None:
            make(_with_weights_of_others(options, model))


def ensure_all(model: str, store: Path) -> None:
    """Do what `ensure` does for every archive of a recipe that this processor computes."""
    ensure(model, *variants_here(recipe_in(recipe_file(model))), store=store)


def _with_weights_of_others(options: Options, model: str) -> Options:
    if newest(model, options.store) is None:
        return options
    reference = find_archive(model, options.store)
    record = read_record(reference.path)
    chosen = "auto" if record is None else record.weights
    return replace(options, weights=chosen, same_weights=reference.identity.weights_sha256)


def make(options: Options) -> Path:
    """Build an archive in a process of its own, if its inputs have changed; returns its path in the store.

    Raises:
        UserError: the archive cannot be built, or its version exists with another content.
    """
    recipe = recipe_in(options.recipe)
    settings = digest(_asked(options), _files(options, recipe))
    target = _target(options, recipe)
    if _is_up_to_date(target, settings):
        return target
    wanted = (*packages(options.runtime), *_EXPORTERS.get(options.runtime, ()), *_of_recipe(recipe))
    require(*wanted, requirements=recipe.requirements, why=f"building an archive for {options.runtime}")
    if (code := _build(options, settings)) != 0:
        name = options.name(recipe.name, options.version or _version(recipe, options))
        kind = RefusedError if code == RefusedError.exit_code else UserError
        raise kind(f"{name} is not built; see above")
    return _target(options, recipe)


def _of_recipe(recipe: Recipe) -> tuple[str, ...]:
    """The extras of pyproject.toml that the model itself needs, whatever its archive's runtime."""
    if recipe.program is not None:
        return ("onnxruntime", "export-onnx") if read_program(recipe.program)[0] == "onnx" else ()
    return (recipe.library,) if recipe.library in ("timm", "transformers") else ()


def _target(options: Options, recipe: Recipe) -> Path:
    """The archive that is asked for; for VERSION=next the newest one, if there is one."""
    own = _version(recipe, options)
    wanted = options.name(recipe.name, own if options.version in (None, NEXT) else options.version)
    if options.version == NEXT:
        alike = [name for name, _ in versions_in(options.store) if replace(name, version=own) == wanted]
        wanted = max(alike, key=lambda name: name.age, default=wanted)
    return options.store / str(wanted)


def _version(recipe: Recipe, options: Options) -> str:
    try:
        return recipe.variant(options.runtime, options.precision).version
    except UnusableError as error:
        raise UserError(str(error)) from error


def _is_up_to_date(archive: Path, settings: str) -> bool:
    record = read_record(archive)
    return (
        record is not None
        and archive.exists()
        and record.settings == settings
        and record.archive == content_digest(archive)
    )


def _build(options: Options, settings: str) -> int:
    """Build in a process of its own; returns its exit code."""
    command = [sys.executable, "-m", "scripts.building", options.json().decode(), settings]
    # with this hash seed the build need not start itself again
    return subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "0"}, check=False).returncode


def recipe_in(path: Path) -> Recipe:
    """Read a recipe, which must have the name of its file: archives are named after it.

    Raises:
        UserError: it cannot be read, or is called otherwise, as a copy is whose `name` nobody has changed yet.
    """
    try:
        recipe = read_recipe(path)
    except (UnusableError, OSError) as error:
        raise UserError(str(error)) from error
    if recipe.name != path.stem:
        raise UserError(
            f"{path}: name: {recipe.name} is not the file's name; write `name: {path.stem}`, or call the file "
            f"{recipe.name}{path.suffix}"
        )
    return recipe


def _asked(options: Options) -> bytes:
    """What is asked for, apart from what says only how the version is chosen, or what may be replaced."""
    return replace(options, version=None, force=False, state=STATE_FOLDER, same_weights=None).json()


def _files(options: Options, recipe: Recipe) -> Iterator[Path]:
    """The files that an archive is built from: recipe, labels, weights, pictures, code."""
    yield options.recipe
    folder, tuned = options.recipe.parent, options.tuned / f"{recipe.name}.yaml"
    yield from (path for path in (*named_files(recipe, folder), tuned, Path(options.weights)) if path.is_file())
    yield from pictures(options.golden, options.calibration)
    yield from files(recipe)
    yield from code()
