"""Builds one archive of one model, in a process of its own.

The steps: recipe -> weights -> export -> parity gate -> torch-model-archiver -> digests -> model store.
"""

import codecs
import shutil
from collections.abc import Callable
from pathlib import Path

from classifier.digests import DIGESTS_FILE
from classifier.errors import UnusableError
from classifier.identity import RECIPE_FILE
from classifier.labels import load_labels
from classifier.recipe import (
    VERSION_PATTERN,
    OwnServing,
    Recipe,
    Variant,
    read_recipe,
)

from scripts.archives.store import signature_of
from scripts.building.gate import Report
from scripts.building.golden import calibration_pixels, golden_set
from scripts.building.options import Options
from scripts.building.overlay import Tuned, overlaid, read_overlay
from scripts.building.packing import pack
from scripts.building.sbom import write_sbom
from scripts.building.stage import Plan, stage
from scripts.building.weights import Weights, resolve
from scripts.building.workdir import workdir
from scripts.console import UserError, step


def build(
    options: Options, weights: Weights | None = None, before: Callable[[Path], None] | None = None
) -> tuple[Path, Report]:
    """Build an archive. It appears in the store complete or not at all.

    Nothing is asked about a file of that name, which is replaced: `release` decides whether that may be.

    Args:
        options: what to build; the version is a number, or the recipe's.
        weights: the weights, if they have been looked up.
        before: what is done with the finished archive before it takes its place.

    Raises:
        UserError: the archive cannot be built; the message says what the user can correct.
    """
    try:
        recipe = read_recipe(options.recipe)
        variant = recipe.variant(options.runtime, options.precision)
        version = checked(options.version or variant.version)
        target = options.store / str(options.name(recipe.name, version))
        if target.is_dir() and not (target / DIGESTS_FILE).exists():
            raise UserError(f"{target} is a folder, but not an archive; move it away")
        with workdir(options.store) as folder:
            recipe_file = _own_recipe(options, recipe, variant, folder)
            weights = weights or resolve(recipe, options.weights, options.cache, options.recipe.parent)
            content, report = stage(_plan(options, recipe_file, variant, version, weights, folder))
            step(f"packing {target.name}")
            finished = folder / target.name
            pack(content, options.archive_format, finished, folder)
            if before is not None:
                before(finished)
            signature_of(target).unlink(missing_ok=True)  # of the archive that is replaced
            if target.is_dir():
                shutil.rmtree(target)
            finished.replace(target)
        write_sbom(target)
    except UnusableError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{error.filename or options.store}: {error.strerror or error}") from error
    return target, report


def checked(version: str) -> str:
    """The version, if it is one.

    Raises:
        UserError: it is not.
    """
    if VERSION_PATTERN.fullmatch(version) is None:
        raise UserError(f"VERSION={version}: a version consists of digits and dots, for example 2.1, or is `next`")
    return version


def own_recipe(options: Options, recipe: Recipe, variant: Variant) -> str:
    """The text of the recipe with this archive's own `serving`, or with the settings that `make tune` found."""
    overlay = read_overlay(recipe.name, options.tuned)
    serving: Tuned | OwnServing = variant.serving
    if overlay is not None and overlay.fits(variant.runtime, variant.precision):
        serving = overlay.serving
    wide = options.recipe.read_bytes().startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as YAML allows
    text = options.recipe.read_text("utf-16" if wide else "utf-8")
    return text if serving == OwnServing() else overlaid(text, serving)


def _own_recipe(options: Options, recipe: Recipe, variant: Variant, workdir: Path) -> Path:
    """The file of the archive's recipe; what `make tune` found is said."""
    overlay = read_overlay(recipe.name, options.tuned)
    if overlay is not None and overlay.fits(variant.runtime, variant.precision):
        step(f"with the settings of {options.tuned / recipe.name}.yaml: {overlay.found}")
    path = workdir / RECIPE_FILE
    path.write_text(own_recipe(options, recipe, variant))
    return path


def _plan(options: Options, recipe_file: Path, variant: Variant, version: str, weights: Weights, workdir: Path) -> Plan:
    """The plan of a build, with everything looked up that the options leave open.

    Raises:
        UserError: pictures are missing.
    """
    recipe = read_recipe(recipe_file)
    pictures = golden_set(options.golden)
    return Plan(
        recipe=recipe,
        recipe_file=recipe_file,
        labels=load_labels(recipe.labels, options.recipe.parent),
        baseline=None if recipe.baseline is None else options.recipe.parent / recipe.baseline,
        variant=variant,
        version=version,
        weights=weights,
        torchscript=options.torchscript,
        pictures=pictures,
        calibration=calibration_pixels(options.calibration, recipe, pictures) if variant.precision == "int8" else None,
        workdir=workdir,
    )
