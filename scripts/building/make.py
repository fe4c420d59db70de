"""Builds the archives that are not there yet: `make archive`, `make archives`.

What an archive was built from is on record beside it, by content: dates do not count. If nothing has changed, nothing
is done here, and quickly; otherwise `release`, in a process of its own, decides what that means for the version.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from classifier.cpu import computes
from classifier.errors import UnusableError
from classifier.places import read_program
from classifier.recipe import Precision, Recipe, RuntimeName, read_recipe
from msgspec.structs import replace

from scripts.archives.format import Format
from scripts.archives.name import ArchiveName
from scripts.archives.runtimes import packages
from scripts.archives.store import STORE, find_archive, model_in, newest, versions_in
from scripts.building.inputs import code, named_files
from scripts.building.options import NEXT, Options, TorchScriptMethod
from scripts.building.record import content_digest, digest, pictures, read_record
from scripts.building.sources import files
from scripts.console import RefusedError, UserError, warn
from scripts.packages import require
from scripts.torchserve.server import STATE_FOLDER

RECIPES: Final = Path("recipes")
# The extras of pyproject.toml that the export to a runtime needs, besides those of the runtime itself.
_EXPORTERS: Final[dict[str, tuple[str, ...]]] = {
    "onnxruntime": ("export-onnx",),
    "openvino": ("export-onnx", "export-openvino"),
}


def archive(
    *,
    model: str | None = None,
    runtime: tuple[RuntimeName, ...] = (),
    precision: Precision = "float32",
    weights: str = "auto",
    torchscript: TorchScriptMethod = "trace",
    format_: Format = "zip-store",
    version: str | None = None,
    force: bool = False,
    golden: Path | None = None,
    calibration: Path | None = None,
    file: Path | None = None,
    store: Path = STORE,
    state: Path = STATE_FOLDER,
    recipes: Path = RECIPES,
) -> None:
    """Build archives, unless they are up to date. A version that exists never gets another content.

    Args:
        model: the recipe's name; without it, the one model that lies in the store, vgg16 if there is none.
        runtime: runtimes to build for, one archive each; without it, those of eager and torchscript that it has.
        precision: the precision that the runtime computes in.
        weights: auto, pretrained (no archive without them), or the file of a state_dict.
        torchscript: whether the module is traced or scripted.
        format_: format of the archives; zip-store is a `.mar`.
        version: version of the archives, instead of the recipe's; `next` is the next free one of each.
        force: replace a version by one with another content, unless a server has it.
        golden: folder of pictures for the parity gate; scikit-image's without it.
        calibration: folder of pictures from which int8 chooses its scales; views of the golden set without it.
        file: the one archive to build, instead of model, runtime, precision, format and store.
        store: folder to write the archives into.
        state: state folder of the server whose versions are never replaced.
        recipes: folder of the recipes.
    """
    if file is not None:
        store = file.parent
        recipe, chosen, version = _named(file.name, version, recipes)
    else:
        recipe = recipe_file(model or model_in(store), recipes)
        chosen = [(name, precision, format_) for name in runtime or _usual(_read(recipe))]
    shared = Options(recipe=recipe, weights=weights, torchscript=torchscript, version=version, store=store)
    shared = replace(shared, golden=golden, calibration=calibration, force=force, state=state)
    _refuse_one_for_many(version, len(chosen))
    _make_all(
        replace(shared, runtime=name, precision=precise, archive_format=packed) for name, precise, packed in chosen
    )


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
    force: bool = False,
    golden: Path | None = None,
    calibration: Path | None = None,
    store: Path = STORE,
    state: Path = STATE_FOLDER,
    recipes: Path = RECIPES,
) -> None:
    """Build every archive of the recipe that this processor computes. One that differs too much does not stop it.

    Args:
        model: the recipe's name; without it, the one model that lies in the store, vgg16 if there is none.
        weights: auto, pretrained (no archive without them), or the file of a state_dict.
        torchscript: whether the module is traced or scripted.
        format_: format of the archives; zip-store is a `.mar`.
        version: version of the archives, instead of the recipe's; `next` is the next free one of each.
        force: replace a version by one with another content, unless a server has it.
        golden: folder of pictures for the parity gate; scikit-image's without it.
        calibration: folder of pictures from which int8 chooses its scales; views of the golden set without it.
        store: folder to write the archives into.
        state: state folder of the server whose versions are never replaced.
        recipes: folder of the recipes.
    """
    recipe = recipe_file(model or model_in(store), recipes)
    shared = Options(recipe=recipe, weights=weights, torchscript=torchscript, version=version, store=store)
    shared = replace(shared, golden=golden, calibration=calibration, force=force, state=state, archive_format=format_)
    variants = variants_here(_read(recipe))
    _refuse_one_for_many(version, len(variants))
    _make_all(replace(shared, runtime=name, precision=precise) for name, precise in variants)


def _make_all(wanted: Iterable[Options]) -> None:
    """Build archives. One that differs too much from its model does not stop the others; any other failure does.

    Raises:
        UserError: an archive is not built.
    """
    refused = []
    for options in wanted:
        try:
            make(options)
        except RefusedError as error:
            refused.append(str(error))
    if refused:
        raise UserError(
            f'{"; ".join(refused)}. Every other archive is there. recipes/README.md, "How to choose a tolerance", has '
            "the ways on"
        )


def _refuse_one_for_many(version: str | None, archives: int) -> None:
    if version not in (None, NEXT) and archives > 1:
        raise UserError(
            f"VERSION={version} is for {archives} archives, but each archive of a model needs a version of its own, by "
            "which TorchServe tells them apart; name one RUNTIME, or pass VERSION=next"
        )


def _named(
    file: str, version: str | None, recipes: Path
) -> tuple[Path, list[tuple[RuntimeName, Precision, Format]], str | None]:
    """The recipe, the runtime, precision and format, and the version of the archive that has this name.

    Raises:
        UserError: no recipe has an archive of that name, or `version` is another than that of the name.
    """
    name = ArchiveName.parse(file)
    if name is not None and (recipes / f"{name.model}.yaml").is_file():
        recipe = recipe_file(name.model, recipes)
        if version is not None and name.version not in (None, version):
            raise UserError(f"{file} is no name for VERSION={version}; leave out one of them")
        for variant in _read(recipe).archives:
            if (variant.runtime, variant.precision) == (name.runtime, name.precision):
                chosen = (variant.runtime, variant.precision, name.archive_format)
                return recipe, [chosen], name.version or version
    raise UserError(f"no recipe of {recipes} has an archive {file}")


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
    ensure(model, *variants_here(_read(recipe_file(model))), store=store)


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
    recipe = _read(options.recipe)
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


def _read(path: Path) -> Recipe:
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
