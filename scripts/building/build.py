"""Build one archive of one model: `make archive`.

The way of an archive: recipe -> weights -> export -> parity gate -> torch-model-archiver -> digests -> model store.
"""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

import msgspec
import psutil
from classifier.cpu import computes
from classifier.errors import UnusableError
from classifier.identity import RECIPE_FILE
from classifier.labels import load_labels
from classifier.recipe import (
    VERSION_PATTERN,
    OwnServing,
    Precision,
    Recipe,
    RuntimeName,
    Variant,
    read_recipe,
)

from scripts.archives.format import SUFFIX, Format
from scripts.archives.store import signature_of
from scripts.building.exports.program import TorchScriptMethod
from scripts.building.gate import Report
from scripts.building.golden import calibration_pixels, golden_set
from scripts.building.overlay import OVERLAYS, Tuned, overlaid, read_overlay
from scripts.building.packing import pack
from scripts.building.sbom import write_sbom
from scripts.building.stage import Plan, stage
from scripts.building.weights import resolve
from scripts.console import UserError, done, out, run, step, warn

_WORKDIR_PREFIX: Final = ".building-"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to build."""

    recipe: Path
    runtime: str = "eager"
    precision: str = "float32"
    weights: str = "auto"
    version: str | None = None
    archive_format: Format = "zip-store"
    torchscript: TorchScriptMethod = "trace"
    golden: Path | None = None
    calibration: Path | None = None
    store: Path = Path("model_store")
    cache: Path = Path("weights")
    tuned: Path = OVERLAYS
    list: bool = False


def archive_name(model: str, runtime: str, precision: str, archive_format: Format) -> str:
    """`<model>-<runtime>[-<precision>]` with the suffix of the format; float32 goes without saying."""
    return "-".join([model, runtime] + ([] if precision == "float32" else [precision])) + SUFFIX[archive_format]


def build(options: Options) -> tuple[Path, Report]:
    """Build an archive. It appears in the store complete or not at all.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    try:
        recipe = read_recipe(options.recipe)
        variant = recipe.variant(options.runtime, options.precision)
        target = options.store / archive_name(recipe.name, variant.runtime, variant.precision, options.archive_format)
        with _workdir(options.store) as workdir:
            recipe_file = _own_recipe(options, recipe, variant, workdir)
            content, report = stage(_plan(options, recipe_file, variant, workdir))
            step(f"packing {target.name}")
            finished = workdir / target.name
            pack(content, options.archive_format, finished, workdir)
            signature_of(target).unlink(missing_ok=True)  # of the one that was there
            if target.is_dir():
                shutil.rmtree(target)
            finished.replace(target)
        write_sbom(target)
    except UnusableError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{error.filename or options.store}: {error.strerror or error}") from error
    return target, report


def _own_recipe(options: Options, recipe: Recipe, variant: Variant, workdir: Path) -> Path:
    """The recipe's file, or one whose `serving` is this archive's own, or what `make tune` found best for it."""
    overlay = read_overlay(recipe.name, options.tuned)
    serving: Tuned | OwnServing = variant.serving
    if overlay is not None and overlay.fits(variant.runtime, variant.precision):
        step(f"with the settings of {options.tuned / recipe.name}.yaml: {overlay.found}")
        serving = overlay.serving
    if serving == OwnServing():
        return options.recipe
    path = workdir / RECIPE_FILE
    path.write_text(overlaid(options.recipe.read_text(), serving))
    return path


def _plan(options: Options, recipe_file: Path, variant: Variant, workdir: Path) -> Plan:
    """What is built from which weights, with everything looked up that options leave open.

    Raises:
        UserError: the version is none, or weights or pictures are missing.
    """
    recipe = read_recipe(recipe_file)
    version = options.version or variant.version
    if VERSION_PATTERN.fullmatch(version) is None:
        raise UserError(f"VERSION={version}: a version is digits and dots, 2.1 say")
    pictures = golden_set(options.golden)
    return Plan(
        recipe=recipe,
        recipe_file=recipe_file,
        labels=load_labels(recipe.labels, options.recipe.parent),
        variant=variant,
        version=version,
        weights=resolve(recipe, options.weights, options.cache),
        torchscript=options.torchscript,
        pictures=pictures,
        calibration=calibration_pixels(options.calibration, recipe, pictures) if variant.precision == "int8" else None,
        workdir=workdir,
    )


@contextlib.contextmanager
def _workdir(store: Path) -> Iterator[Path]:
    """A folder beside the finished archives, so that moving the result is one step. Sweeps what killed builds left."""
    store.mkdir(parents=True, exist_ok=True)
    for leftover in store.glob(f"{_WORKDIR_PREFIX}*"):
        if not psutil.pid_exists(int(leftover.name.split("-")[1])):
            shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{_WORKDIR_PREFIX}{os.getpid()}-", dir=store) as name:
        yield Path(name)


def parse_arguments(arguments: list[str] | None = None) -> Options:
    """The command line as options."""
    parser = argparse.ArgumentParser(prog="python -m scripts.building.build", description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True, help="recipes/<model>.yaml")
    parser.add_argument("--runtime", choices=get_args(RuntimeName), default="eager")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    parser.add_argument("--weights", default="auto", help="auto, pretrained, or the path of a state_dict")
    parser.add_argument("--version", help="instead of the recipe's version for this runtime and precision")
    parser.add_argument("--format", dest="archive_format", choices=get_args(Format), default="zip-store")
    parser.add_argument("--torchscript", choices=get_args(TorchScriptMethod), default="trace")
    parser.add_argument("--golden", type=Path, help="folder of pictures for the parity gate; default: scikit-image's")
    parser.add_argument(
        "--calibration",
        type=Path,
        help="folder of pictures on which int8 chooses its scales; default: the golden set's",
    )
    parser.add_argument("--store", type=Path, default=Path("model_store"), help="folder for the archive")
    parser.add_argument("--cache", type=Path, default=Path("weights"), help="folder for downloaded weights")
    parser.add_argument("--tuned", type=Path, default=OVERLAYS, help="folder of what `make tune` found")
    parser.add_argument("--list", action="store_true", help="build nothing; print what of the recipe can be built here")
    return Options(**vars(parser.parse_args(arguments)))


def list_variants(recipe_file: Path) -> str:
    """A line for each archive of the recipe that can be built here: its runtime and its precision.

    Raises:
        UserError: the recipe cannot be used.
    """
    try:
        variants = read_recipe(recipe_file).archives
    except (UnusableError, OSError) as error:
        raise UserError(str(error)) from error
    here = [item for item in variants if computes(item.precision)]
    if len(here) < len(variants):
        warn("without the archives in bfloat16, for which this processor has no instructions")
    return "\n".join(f"{item.runtime} {item.precision}" for item in here)


def main() -> None:
    """Build what the command line says."""
    options = parse_arguments()
    if options.list:
        out.print(list_variants(options.recipe))
        return
    target, report = build(options)
    size = sum(path.stat().st_size for path in target.rglob("*")) if target.is_dir() else target.stat().st_size
    done(
        f"{target} ({size / 1e6:.0f} MB), max |Δlogit| {report.max_abs_logit:.1e}, "
        f"top-1 {report.top1_agreement:.0%}, top-5 {report.top5_agreement:.0%}"
        + (f", calibrated on {report.calibration_pictures} pictures" if report.calibration_pictures else "")
    )


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # torch.jit.script walks sets of names: with a random hash seed its output differs from build to build
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"PYTHONHASHSEED": "0"})  # noqa: S606
    run(main)
