"""Is an export the model it was exported from? Compares it with the float32 eager reference over the golden set."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import torch
from classifier.pipeline import load_pixels
from classifier.preprocess import normalize
from classifier.problems import Problem
from classifier.recipe import PILLOW_LIMIT, Recipe, Tolerance
from classifier.runtimes import Forward
from torch import Tensor, nn

from scripts.console import UserError

_TOOLS = ("torch", "torchvision", "pillow", "numpy", "torch-model-archiver")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How far an export is from the reference."""

    pictures: int
    max_abs_logit: float  # the largest difference of any logit of any picture
    top1_agreement: float  # share of pictures, 0…1
    top5_agreement: float  # share of pictures with the same five classes in the same order
    tolerance: Tolerance
    weights_sha256: str
    tools: dict[str, str]

    def failures(self) -> list[str]:
        """What is outside the tolerance, in words; nothing when all is well."""
        limit = self.tolerance
        checks = (
            (self.max_abs_logit <= limit.max_abs_logit, "max |Δlogit|", self.max_abs_logit, limit.max_abs_logit),
            (self.top1_agreement >= limit.top1_agreement, "top-1 agreement", self.top1_agreement, limit.top1_agreement),
            (self.top5_agreement >= limit.top5_agreement, "top-5 agreement", self.top5_agreement, limit.top5_agreement),
        )
        return [f"{name} is {value:.3g}, allowed is {bound:.3g}" for good, name, value, bound in checks if not good]


def golden_pixels(pictures: Sequence[Path], recipe: Recipe) -> Tensor:
    """The golden set as the model sees it: uint8 [N,H,W,3].

    Raises:
        UserError: a picture cannot be used; the message names it.
    """
    spec = msgspec.structs.replace(recipe.input, max_pixels=PILLOW_LIMIT)  # the limit is for strangers' pictures
    pixels = []
    for path in pictures:
        item = load_pixels(path.read_bytes(), spec)
        if isinstance(item, Problem):
            raise UserError(f"golden set: {path}: {item.detail}")
        pixels.append(item)
    return torch.from_numpy(np.stack(pixels))


@torch.inference_mode()
def reference_logits(module: nn.Module, pixels: Tensor, recipe: Recipe) -> Tensor:
    """The plainest way to compute logits [N,classes]: float32, eager, one picture at a time, contiguous memory."""
    return torch.cat([module(normalize(item, recipe.input.normalization).contiguous()) for item in pixels.split(1)])


def exported_logits(forward: Forward, pixels: Tensor, recipe: Recipe) -> Tensor:
    """Logits [N,classes] of an export, computed in batches as a server does."""
    return torch.cat([forward(batch) for batch in pixels.split(recipe.serving.batch_size)])


def compare(reference: Tensor, exported: Tensor, tolerance: Tolerance, weights_sha256: str) -> Report:
    """Compare logits [N,classes] of the same pictures."""
    k = min(5, reference.shape[1])
    expected, actual = reference.topk(k).indices, exported.topk(k).indices
    same = expected == actual
    return Report(
        pictures=len(reference),
        max_abs_logit=float((reference - exported).abs().max()),
        top1_agreement=float(same[:, 0].float().mean()),
        top5_agreement=float(same.all(dim=1).float().mean()),
        tolerance=tolerance,
        weights_sha256=weights_sha256,
        tools={"python": platform.python_version()} | {name: version(name) for name in _TOOLS},
    )
