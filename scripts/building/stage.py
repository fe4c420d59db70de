"""Makes the files of an archive from weights: the export, the parity gate, and the files beside the model's own."""

import importlib.util
import shutil
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from classifier.identity import LABELS_FILE, PARITY_FILE, RECIPE_FILE, Identity, Model, write_identity
from classifier.labels import Label, write_labels
from classifier.pipeline import threads_per_worker
from classifier.recipe import Recipe, Variant
from classifier.runtimes import Source, load_runtime
from classifier.runtimes.eager import load_module
from numpy.typing import NDArray

from scripts.archives.settings import MODEL_CONFIG, front_end_settings, settings_text
from scripts.building.exports.export import SUFFIX, export
from scripts.building.exports.program import Export
from scripts.building.gate import Report, compare, exported_logits, reference_logits
from scripts.building.golden import golden_pixels
from scripts.building.options import TorchScriptMethod
from scripts.building.packing import Content
from scripts.building.weights import Weights
from scripts.console import UserError, step

_CORE: Final = "classifier"
_HANDLER: Final = "image_classifier_handler"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs that the steps of one build share."""

    recipe: Recipe
    recipe_file: Path  # of this recipe, whose `serving` is the archive's own
    labels: list[Label]  # in the order of the logits
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
        UserError: the model cannot be exported, or the export differs too much from it.
    """
    beside = _export(plan)
    report = _pass_parity_gate(plan)
    return _content(plan, _extra(plan, beside, report)), report


def _export(plan: Plan) -> list[Path]:
    """Write the file that the runtime loads; returns further files that belong beside it."""
    recipe, variant = plan.recipe, plan.variant
    step(f"exporting {recipe.name} for {variant.runtime} in {variant.precision}, weights: {plan.weights.name}")
    what = Export(
        module=load_module(recipe.architecture, plan.weights.path),
        recipe=recipe,
        variant=variant,
        torchscript=plan.torchscript,
        calibration=plan.calibration,
    )
    return export(what, plan.serialized)


def _pass_parity_gate(plan: Plan) -> Report:
    """Compare the exported file with the module it was exported from; an export that does not pass is not built."""
    step(f"comparing with the float32 eager reference on {len(plan.pictures)} pictures")
    recipe, variant = plan.recipe, plan.variant
    pixels = golden_pixels(plan.pictures, recipe)
    source = Source(
        directory=plan.workdir,
        serialized_file=plan.serialized.name,
        recipe=recipe,
        variant=variant,
        threads=threads_per_worker(recipe.serving),
    )
    exported = exported_logits(load_runtime(source), pixels, recipe)
    module = load_module(recipe.architecture, plan.weights.path)  # again: an export may change its module
    reference = reference_logits(module, pixels, recipe)
    if reference.shape[1] != len(plan.labels):
        raise UserError(f"{recipe.name}: {len(plan.labels)} labels for {reference.shape[1]} logits")
    calibrated_on = None if plan.calibration is None else len(plan.calibration)
    report = compare(reference, exported, variant.tolerance, plan.weights.sha256, calibrated_on, variant.runtime)
    if failures := "; ".join(report.failures()):
        raise UserError(
            f"{recipe.name} {variant.runtime} {variant.precision} is not built, it differs from its reference: "
            f"{failures}"
        )
    return report


def _extra(plan: Plan, beside: list[Path], report: Report) -> Path:
    """A folder with what lies beside the handler and the model's own file: the core, and what describes the model."""
    extra = plan.workdir / "extra"
    extra.mkdir()
    for path in beside:
        path.rename(extra / path.name)
    core = source_file(_CORE).parent
    shutil.copytree(core, extra / _CORE, ignore=lambda _, names: {name for name in names if not _is_source(name)})
    shutil.copy(plan.recipe_file, extra / RECIPE_FILE)
    write_labels(plan.labels, extra / LABELS_FILE)
    (extra / PARITY_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    model = Model(
        name=plan.recipe.name,
        version=plan.version,
        runtime=plan.variant.runtime,
        precision=plan.variant.precision,
        weights=plan.weights.name,
    )
    identity = Identity(model=model, weights_sha256=plan.weights.sha256, serialized_file=plan.serialized.name)
    write_identity(identity, extra)
    return extra


def _content(plan: Plan, extra: Path) -> Content:
    """The content for torch-model-archiver to pack, with the settings of TorchServe's front end."""
    config = plan.workdir / MODEL_CONFIG
    config.write_text(settings_text(front_end_settings(plan.recipe.serving)))
    return Content(
        model_name=plan.recipe.name,
        version=plan.version,
        handler=source_file(_HANDLER),
        serialized_file=plan.serialized,
        model_file=source_file(plan.recipe.architecture) if plan.variant.runtime == "eager" else None,
        config_file=config,
        extra_folder=extra,
    )


def source_file(module: str) -> Path:
    """The source file of an importable module; of a package, its `__init__.py`.

    Raises:
        UserError: there is no such module.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.has_location:
        raise UserError(f"there is no module {module} in handlers/")
    return Path(spec.origin)


def _is_source(name: str) -> bool:
    return name.endswith(".py") or ("." not in name and name != "__pycache__")
