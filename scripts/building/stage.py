"""Makes the files of an archive from weights: the export, the parity gate, and the files beside the model's own."""

import importlib.util
import shutil
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from classifier.baseline import BASELINE_FILE, read_baseline
from classifier.identity import LABELS_FILE, PARITY_FILE, RECIPE_FILE, Identity, Model, write_identity
from classifier.labels import Label, write_labels
from classifier.recipe import Recipe, Variant
from numpy.typing import NDArray

from scripts.archives.settings import MODEL_CONFIG, front_end_settings, settings_text
from scripts.building.alone import outputs_alone
from scripts.building.exports.export import SUFFIX, export
from scripts.building.exports.program import Export
from scripts.building.gate import RefusedError, Report, check_outputs, compare
from scripts.building.golden import golden_pixels
from scripts.building.options import TorchScriptMethod
from scripts.building.original import Original, original
from scripts.building.packing import Content
from scripts.building.requirements import requirements_of
from scripts.building.sources import NOT_PACKED, sources
from scripts.building.weights import Weights
from scripts.console import UserError, step

_CORE: Final = "classifier"
_HANDLER: Final = "image_classifier_handler"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs that the steps of one build share."""

    recipe: Recipe
    recipe_file: Path  # of this recipe, whose `serving` is the archive's own
    labels: list[Label]  # in the order of the logits
    baseline: Path | None  # what live traffic is compared with
    variant: Variant
    version: str
    weights: Weights
    torchscript: TorchScriptMethod
    pictures: list[Path]  # the golden set
    calibration: NDArray[np.uint8] | None  # pictures [N,H,W,3] on which int8 chooses its scales
    workdir: Path

    @property
    def serialized(self) -> Path:
        """The file that the runtime loads."""
        return self.workdir / f"{self.recipe.name}{SUFFIX[self.variant.runtime]}"


def stage(plan: Plan) -> tuple[Content, Report]:
    """Put all files of the archive into the work folder, if the export passes the parity gate.

    Raises:
        UserError: the model cannot be exported, the export differs too much from it, or the archive is not complete.
    """
    pixels = golden_pixels(plan.pictures, plan.recipe)
    model = original(plan.recipe, plan.weights)
    reference = model.outputs(pixels)  # before the export, which may change the module
    check_outputs(reference, len(plan.labels), plan.recipe)
    requirements = requirements_of(plan.recipe, plan.variant.runtime)
    content = _content(plan, _extra(plan, _export(plan, model), requirements))
    step(f"comparing with the float32 eager reference on {len(plan.pictures)} pictures")
    outputs = outputs_alone(content, plan.variant.runtime, requirements, pixels, plan.workdir)
    report = _pass_parity_gate(plan, reference, outputs)
    (content.extra_folder / PARITY_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return content, report


def _export(plan: Plan, model: Original) -> list[Path]:
    """Write the file that the runtime loads; returns further files that belong beside it."""
    recipe, variant = plan.recipe, plan.variant
    step(f"exporting {recipe.name} for {variant.runtime} in {variant.precision}, weights: {plan.weights.name}")
    what = Export(
        module=model.module,
        program=model.program,
        recipe=recipe,
        variant=variant,
        torchscript=plan.torchscript,
        calibration=plan.calibration,
    )
    return export(what, plan.serialized)


def _pass_parity_gate(plan: Plan, reference: NDArray[np.float32], outputs: NDArray[np.float32]) -> Report:
    """Compare the archive's outputs with those of the model; an export that does not pass is not built."""
    recipe, variant = plan.recipe, plan.variant
    if outputs.shape != reference.shape:
        raise UserError(f"{recipe.name} gives {outputs.shape} in {variant.runtime} instead of {reference.shape}")
    calibrated_on = None if plan.calibration is None else len(plan.calibration)
    allowed = variant.allowed(float(np.abs(reference).max()))
    report = compare(reference, outputs, allowed, plan.weights.sha256, calibrated_on, variant.runtime)
    if failures := "; ".join(report.failures()):
        raise RefusedError(
            f"{recipe.name} {variant.runtime} {variant.precision} is not built, it differs from its reference: "
            f"{failures}\nWays on: recipes/README.md, 'How to choose a tolerance'"
        )
    return report


def _extra(plan: Plan, beside: list[Path], requirements: list[str]) -> Path:
    """A folder with what lies beside the handler and the model's own file: the core, and what describes the model."""
    extra = plan.workdir / "extra"
    extra.mkdir()
    for path in beside:
        path.rename(extra / path.name)
    _copy_sources(source_file(_CORE).parent, extra)
    for helper in _python(plan)[1:]:
        _copy_sources(helper, extra)
    shutil.copy(plan.recipe_file, extra / RECIPE_FILE)
    write_labels(plan.labels, extra / LABELS_FILE)
    if plan.baseline is not None:
        read_baseline(plan.baseline, plan.labels)  # an archive has only one that is
        shutil.copy(plan.baseline, extra / BASELINE_FILE)
    model = Model(
        name=plan.recipe.name,
        version=plan.version,
        runtime=plan.variant.runtime,
        precision=plan.variant.precision,
        weights=plan.weights.name,
    )
    identity = Identity(
        model=model,
        weights_sha256=plan.weights.sha256,
        serialized_file=plan.serialized.name,
        requirements=requirements,
    )
    write_identity(identity, extra)
    return extra


def _content(plan: Plan, extra: Path) -> Content:
    """The content for torch-model-archiver to pack, with the settings of TorchServe's front end."""
    config = plan.workdir / MODEL_CONFIG
    config.write_text(settings_text(front_end_settings(plan.recipe.serving)))
    first = next(iter(_python(plan)), None)
    if first is not None and first.is_dir():  # a package: torch-model-archiver takes a single file as the model's
        _copy_sources(first, extra)
        first = None
    return Content(
        model_name=plan.recipe.name,
        version=plan.version,
        handler=source_file(_HANDLER),
        serialized_file=plan.serialized,
        model_file=first,
        config_file=config,
        extra_folder=extra,
    )


def _python(plan: Plan) -> list[Path]:
    """The architecture's own files, its module first; a graph needs none of them."""
    return sources(plan.recipe) if plan.variant.runtime == "eager" else []


def _copy_sources(source: Path, folder: Path) -> None:
    """Copy a module, or a package without Python's caches and without hidden files."""
    if source.is_dir():
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns(*NOT_PACKED))
    else:
        shutil.copy(source, folder)


def source_file(module: str) -> Path:
    """The source file of an importable module; of a package, its `__init__.py`.

    Raises:
        UserError: there is no such module.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.has_location:
        raise UserError(f"there is no module {module} in handlers/")
    return Path(spec.origin)
