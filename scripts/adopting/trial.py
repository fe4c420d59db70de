"""Tries an adopted model on pictures: whether it sees them as its library does, and what its outputs are."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from classifier.input import Input
from classifier.normalization import normalize
from classifier.preprocess import resize_and_crop
from classifier.recipe import Recipe
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from scripts.building.original import Original, original
from scripts.building.weights import Weights
from scripts.console import UserError

_SIZES: Final = ((457, 301), (301, 457), (640, 600))  # pixels: both orientations, sides that nothing divides
_MOST_LEVELS: Final = 1.0  # of 255, on average; libraries' own resizing by tensors and by Pillow differ by less
_SHIFTS: Final = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1))  # pixels
_MIDDLE: Final = 128
_EXACT: Final = 1e-3  # of sums that should be 1
_LOUDER: Final = 1000  # times; logits follow, and probabilities cannot leave 0…1


def pictures() -> list[Image.Image]:
    """Made-up pictures, the same every time: soft spots of colour with fine structure."""
    random = np.random.default_rng(0)
    made = []
    for size in _SIZES:
        coarse, fine = (random.integers(0, 256, (*shape, 3), np.uint8) for shape in ((8, 10), (90, 110)))
        spots, grain = (Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC) for levels in (coarse, fine))
        made.append(Image.blend(spots, grain, 0.3))
    return made


def check_input(spec: Input, transform: Callable[[Image.Image], Tensor], whose: str) -> bool:
    """Compare the recipe's way of preparing pictures with a library's own, which gives float32 [C,H,W].

    Returns:
        Whether the library cuts some pictures one pixel beside where the recipe does: libraries round differently.

    Raises:
        UserError: they differ by more than that and roundings of levels.
    """
    beside = False
    for picture in pictures():
        ours = normalize(torch.from_numpy(resize_and_crop(picture, spec))[None], spec)[0]
        theirs = transform(picture)
        if ours.shape != theirs.shape:
            raise _differs(whose, f"in its size: {list(theirs.shape)}")
        difference = _levels(ours, theirs, spec)
        if difference > _MOST_LEVELS:
            beside = True
            shifted = min(_levels(*_overlap(ours, theirs, *shift), spec) for shift in _SHIFTS)
            if shifted > _MOST_LEVELS:
                raise _differs(whose, f"by {difference:.1f} of 255 levels on average")
    return beside


def _levels(ours: Tensor, theirs: Tensor, spec: Input) -> float:
    """How far two inputs differ on average, in levels of pictures."""
    deviation = torch.tensor(spec.std)[:, None, None] / spec.statistics.scale
    return ((ours - theirs).abs() * deviation).mean().item()


def _overlap(ours: Tensor, theirs: Tensor, down: int, right: int) -> tuple[Tensor, Tensor]:
    """What two inputs have in common if the second was cut that many pixels further down and right."""
    height, width = ours.shape[1:]
    return (
        ours[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)],
        theirs[:, max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)],
    )


def _differs(whose: str, how: str) -> UserError:
    return UserError(
        f"{whose} prepares pictures in a way that a recipe cannot say: the nearest differs {how}; "
        "pass LIKE=<a recipe whose input you have checked>"
    )


def outputs_of(
    recipe: Recipe, weights: Path, entry: str | None = None, prefix: str | None = None
) -> NDArray[np.float32]:
    """The model's outputs [N,classes] for those pictures, for the same in black and white, and for much louder ones.

    They are computed as the build does it. The loud ones are no pictures: the model's input is that of black and white,
    multiplied. By chance, the logits of a few classes lie between 0 and 1 on all pictures; on these they do not.

    Raises:
        UserError: the weights do not fit, the model does not take the recipe's input, or gives no numbers for it.
    """
    pixels = np.stack([resize_and_crop(picture, recipe.input) for picture in pictures()])
    extreme = np.where(pixels < _MIDDLE, 0, 255).astype(np.uint8)
    model = original(recipe, Weights(weights.stem, weights, "", entry, prefix))
    outputs = np.concatenate([model.outputs(np.concatenate([pixels, extreme])), _louder(model).outputs(extreme)])
    if not np.isfinite(outputs[: len(pixels)]).all():
        raise UserError(
            f"{weights.name}: the outputs are not finite numbers; the weights are damaged, or training diverged"
        )
    return outputs


def _louder(model: Original) -> Original:
    """The same model, whose input is multiplied."""
    spec = model.recipe.input
    statistics = replace(spec.statistics, std=[deviation / _LOUDER for deviation in spec.std])
    return replace(model, recipe=replace(model.recipe, input=replace(spec, normalization=statistics)))


def scores_of(outputs: NDArray[np.float32]) -> tuple[str, str] | None:
    """The recipe's `scores` for such outputs and why, if they are not logits."""
    outputs = outputs[np.isfinite(outputs).all(1)]  # loud input can overflow, which says nothing
    inside = bool(((outputs >= -_EXACT) & (outputs <= 1 + _EXACT)).all())
    if inside and outputs.shape[1] > 1 and bool((abs(outputs.sum(1) - 1) < _EXACT).all()):
        return "none", "the model's outputs sum to one on every picture tried, so they are probabilities already"
    if inside and bool((abs(outputs) > _EXACT).any()):
        return "none", "the model's outputs lie between 0 and 1 on every picture tried, as after a sigmoid"
    return None
