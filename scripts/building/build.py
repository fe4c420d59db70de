"""Build one archive of one model, in a process of its own.

The way of an archive: recipe -> weights -> export -> parity gate -> torch-model-archiver -> digests -> model store.
"""

import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import psutil
from classifier.errors import UnusableError
from classifier.identity import (
    LABELS_FILE,
    PARITY_FILE,
    RECIPE_FILE,
    Identity,
    Model,
    write_identity,
)
from classifier.labels import load_labels, write_labels
from classifier.pipeline import threads_per_worker
from classifier.recipe import (
    VERSION_PATTERN,
    OwnServing,
    Recipe,
    Variant,
    read_recipe,
)
from classifier.runtimes import Source, load_runtime
from classifier.runtimes.eager import load_module
from numpy.typing import NDArray
from torch import nn

from scripts.archives.format import archive_name
from scripts.archives.settings import MODEL_CONFIG, front_end_settings, settings_text
from scripts.archives.store import signature_of
from scripts.building.exports.export import SUFFIX as SERIALIZED_SUFFIX
from scripts.building.exports.export import export
from scripts.building.exports.program import Export
from scripts.building.gate import Report, compare, exported_logits, reference_logits
from scripts.building.golden import calibration_pixels, golden_pixels, golden_set
from scripts.building.options import Options
from scripts.building.overlay import Tuned, overlaid, read_overlay
from scripts.building.packing import Content, pack
from scripts.building.sbom import write_sbom
from scripts.building.weights import Weights, resolve
from scripts.console import UserError, done, run, step

_CORE: Final = "classifier"
_HANDLER: Final = "image_classifier_handler"
_WORKDIR_PREFIX: Final = ".building-"


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
            weights = resolve(recipe, options.weights, options.cache)
            content, report = _stage(options, _own_recipe(options, recipe, variant, workdir), variant, weights, workdir)
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


def _stage(
    options: Options, recipe_file: Path, variant: Variant, weights: Weights, workdir: Path
) -> tuple[Content, Report]:
    """Put all files of the archive into the work folder; those beside the model's own into `extra`."""
    recipe = read_recipe(recipe_file)
    version = options.version or variant.version
    if VERSION_PATTERN.fullmatch(version) is None:
        raise UserError(f"VERSION={version}: a version is digits and dots, 2.1 say")
    step(f"exporting {recipe.name} for {variant.runtime} in {variant.precision}, weights: {weights.name}")
    module = load_module(recipe.architecture, weights.path)
    pictures = golden_set(options.golden)
    calibration = calibration_pixels(options.calibration, recipe, pictures) if variant.precision == "int8" else None
    serialized = workdir / f"{recipe.name}{SERIALIZED_SUFFIX[variant.runtime]}"
    beside = export(
        Export(
            module=module,
            recipe=recipe,
            variant=variant,
            torchscript=options.torchscript,
            calibration=calibration,
        ),
        serialized,
    )
    labels = load_labels(recipe.labels, options.recipe.parent)
    reference = load_module(recipe.architecture, weights.path)  # anew: an export may change its module
    report = _pass_parity_gate(recipe, variant, weights, reference, serialized, pictures, calibration, len(labels))

    extra = workdir / "extra"
    extra.mkdir()
    for path in beside:
        path.rename(extra / path.name)
    core = source_file(_CORE).parent
    shutil.copytree(core, extra / _CORE, ignore=lambda _, names: {name for name in names if not _is_source(name)})
    shutil.copy(recipe_file, extra / RECIPE_FILE)
    write_labels(labels, extra / LABELS_FILE)
    (extra / PARITY_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    model = Model(
        name=recipe.name,
        version=version,
        runtime=variant.runtime,
        precision=variant.precision,
        weights=weights.name,
    )
    write_identity(Identity(model=model, weights_sha256=weights.sha256, serialized_file=serialized.name), extra)
    config = workdir / MODEL_CONFIG
    config.write_text(settings_text(front_end_settings(recipe.serving)))
    return Content(
        model_name=recipe.name,
        version=version,
        handler=source_file(_HANDLER),
        serialized_file=serialized,
        model_file=source_file(recipe.architecture) if variant.runtime == "eager" else None,
        config_file=config,
        extra_folder=extra,
    ), report


def _pass_parity_gate(
    recipe: Recipe,
    variant: Variant,
    weights: Weights,
    module: nn.Module,
    serialized: Path,
    pictures: list[Path],
    calibration: NDArray[np.uint8] | None,
    classes: int,
) -> Report:
    """Hold the exported file to the module it was exported from; what does not pass is not built."""
    step(f"comparing with the float32 eager reference on {len(pictures)} pictures")
    pixels = golden_pixels(pictures, recipe)
    source = Source(
        directory=serialized.parent,
        serialized_file=serialized.name,
        recipe=recipe,
        variant=variant,
        threads=threads_per_worker(recipe.serving),
    )
    exported = exported_logits(load_runtime(variant.runtime, source), pixels, recipe)
    reference = reference_logits(module, pixels, recipe)
    if reference.shape[1] != classes:
        raise UserError(f"{recipe.name}: {classes} labels for {reference.shape[1]} logits")
    on = None if calibration is None else len(calibration)
    report = compare(reference, exported, variant.tolerance, weights.sha256, on, variant.runtime)
    if failures := "; ".join(report.failures()):
        raise UserError(
            f"{recipe.name} {variant.runtime} {variant.precision} is not built, it differs from its reference: "
            f"{failures}"
        )
    return report


def source_file(module: str) -> Path:
    """The source file of an importable module; of a package, its `__init__.py`."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise UserError(f"there is no module {module} in handlers/")
    return Path(spec.origin)


def _is_source(name: str) -> bool:
    return name.endswith(".py") or ("." not in name and name != "__pycache__")


@contextlib.contextmanager
def _workdir(store: Path) -> Iterator[Path]:
    """A folder beside the finished archives, so that moving the result is one step. Sweeps what killed builds left."""
    store.mkdir(parents=True, exist_ok=True)
    for leftover in store.glob(f"{_WORKDIR_PREFIX}*"):
        if not psutil.pid_exists(int(leftover.name.split("-")[1])):
            shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{_WORKDIR_PREFIX}{os.getpid()}-", dir=store) as name:
        yield Path(name)


def main() -> None:
    """Build what the JSON of the command line says: `Options`."""
    target, report = build(Options.read(sys.argv[1]))
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
