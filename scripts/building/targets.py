"""The targets that build archives: `make archive`, `make archives`."""

from collections.abc import Iterable
from pathlib import Path

from classifier.recipe import Precision, Recipe, RuntimeName
from msgspec.structs import replace

from scripts.archives.format import Format
from scripts.archives.name import ArchiveName
from scripts.archives.store import STORE, model_in
from scripts.building.gate import RefusedError
from scripts.building.make import RECIPES, make, recipe_file, recipe_in, variants_here
from scripts.building.options import NEXT, Options, TorchScriptMethod
from scripts.console import UserError
from scripts.torchserve.server import STATE_FOLDER


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
        chosen = [(name, precision, format_) for name in runtime or _usual(recipe_in(recipe))]
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
    variants = variants_here(recipe_in(recipe))
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
        raise UserError(f"{'; '.join(refused)}. Every other archive is there")


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
        for variant in recipe_in(recipe).archives:
            if (variant.runtime, variant.precision) == (name.runtime, name.precision):
                chosen = (variant.runtime, variant.precision, name.archive_format)
                return recipe, [chosen], name.version or version
    raise UserError(f"no recipe of {recipes} has an archive {file}")
