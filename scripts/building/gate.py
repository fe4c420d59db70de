"""The parity gate: compares an export with the float32 eager reference over the golden set."""

import platform
from importlib.metadata import version
from typing import Final

import msgspec
import numpy as np
from classifier.recipe import Recipe, RuntimeName, Tolerance
from numpy.typing import NDArray

from scripts.console import UserError, warn

_ROUNDING: Final = 1e-3  # of probabilities in half precision
_TOOLS: Final = ("torch", "torchvision", "pillow", "numpy", "torch-model-archiver")
# What else makes the files of these runtimes, or runs them. An archive of another runtime is the same without them.
_FURTHER_TOOLS: Final[dict[RuntimeName, tuple[str, ...]]] = {
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
    "openvino": ("openvino", "nncf", "onnx", "onnxscript"),
    "ncnn": ("ncnn", "pnnx"),
}


class RefusedError(UserError):
    """An archive could be built, but differs too much from its model."""

    exit_code = 3  # by which the program that had it built knows


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How far an export differs from the reference."""

    pictures: int
    calibration_pictures: int | None  # from which int8 chose its scales
    max_abs_logit: float  # the largest difference of any logit of any picture
    top1_agreement: float  # share of pictures, 0…1
    top5_agreement: float  # share of pictures with the same five classes in the same order
    tolerance: Tolerance
    weights_sha256: str
    tools: dict[str, str]

    def failures(self) -> list[str]:
        """The figures outside the tolerance, in words; empty if there are none."""
        limit = self.tolerance
        checks = (
            (self.max_abs_logit <= limit.max_abs_logit, "max |Δlogit|", self.max_abs_logit, limit.max_abs_logit),
            (self.top1_agreement >= limit.top1_agreement, "top-1 agreement", self.top1_agreement, limit.top1_agreement),
            (self.top5_agreement >= limit.top5_agreement, "top-5 agreement", self.top5_agreement, limit.top5_agreement),
        )
        return [f"{name} is {value:.3g}, allowed is {bound:.3g}" for good, name, value, bound in checks if not good]


def check_outputs(outputs: NDArray[np.float32], labels: int, recipe: Recipe) -> None:
    """Refuse a recipe whose labels or scores do not fit what the model gives, [N,classes].

    Outputs that are probabilities already are warned of where the recipe would make probabilities of them again.

    Raises:
        UserError: another number of labels than outputs; outputs that are no numbers; one output under softmax, which
            makes 100 % of anything; or outputs that are no probabilities although the recipe says so.
    """
    classes = outputs.shape[1]
    if classes != labels:
        raise UserError(f"{recipe.name}: {labels} labels for {classes} logits")
    if not np.isfinite(outputs).all():
        raise UserError(f"{recipe.name} gives outputs that are not finite numbers; are weights or normalization wrong?")
    if recipe.scores == "softmax" and classes == 1:
        raise UserError(f"{recipe.name} has one logit, of which softmax makes 100 %; write `scores: sigmoid`")
    between = bool((outputs >= 0).all() and (outputs <= 1 + _ROUNDING).all())
    if recipe.scores == "none":
        if not between:
            raise UserError(f"{recipe.name}'s outputs are not between 0 and 1; `scores: none` is for probabilities")
    elif between and (recipe.scores == "sigmoid" or np.allclose(outputs.sum(axis=1), 1, atol=_ROUNDING)):
        warn(f"{recipe.name}'s outputs seem to be probabilities already; if they are, write `scores: none`")


def compare(
    reference: NDArray[np.float32],
    exported: NDArray[np.float32],
    tolerance: Tolerance,
    weights_sha256: str,
    calibration_pictures: int | None = None,
    runtime: RuntimeName = "eager",
) -> Report:
    """Compare logits [N,classes] of the same pictures; the runtime says which tools had a part in the export."""
    tools = (*_TOOLS, *_FURTHER_TOOLS.get(runtime, ()))
    expected, actual = (np.argsort(-logits, axis=1, kind="stable")[:, :5] for logits in (reference, exported))
    same = expected == actual
    return Report(
        pictures=len(reference),
        calibration_pictures=calibration_pictures,
        max_abs_logit=float(np.abs(reference - exported).max()),
        top1_agreement=float(same[:, 0].mean()),
        top5_agreement=float(same.all(axis=1).mean()),
        tolerance=tolerance,
        weights_sha256=weights_sha256,
        tools={"python": platform.python_version()} | {name: version(name) for name in tools},
    )
