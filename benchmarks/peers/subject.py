"""Writes down what the other servers serve: an eager archive's weights, architecture and preparation of pictures."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classifier.cpu import usable_cores
from classifier.identity import LABELS_FILE, RECIPE_FILE
from classifier.input import Input
from classifier.labels import read_labels
from classifier.recipe import Recipe, read_recipe

from scripts.archives.loaded import unpacked
from scripts.archives.store import Archive

_MODES = {"rgb": "RGB", "grey": "L"}  # Pillow's names
_LEVELS = 255


class UnlikePeersError(Exception):
    """The other servers' few lines cannot serve this model as it is; the message says why."""


@contextmanager
def subject_of(eager: Archive) -> Iterator[Path]:
    """Unpack an eager archive, with a file beside it that says what to serve; yields that file.

    Raises:
        UnlikePeersError: the model needs more than torchvision's transforms and a module of PyTorch.
        UserError: the archive is damaged.
    """
    with unpacked(eager.path) as folder:
        recipe, labels = read_recipe(folder / RECIPE_FILE), read_labels(folder / LABELS_FILE)
        refuse_unlike(eager, recipe)
        content = preparation(recipe.input) | {
            "architecture": recipe.architecture,
            "arguments": dict(recipe.arguments or {}),
            "weights": str(folder / eager.identity.serialized_file),
            "labels": [f"{label.class_id} {label.class_name}" for label in labels],
            "threads": usable_cores(),
            "batch_size": recipe.serving.batch_size,
        }
        file = folder / "subject.json"
        file.write_text(json.dumps(content))
        yield file


def refuse_unlike(eager: Archive, recipe: Recipe) -> None:
    """Raise an UnlikePeersError if the archive of that recipe cannot be served by them."""
    spec = recipe.input
    if recipe.scores != "softmax":
        raise UnlikePeersError(f"they answer with a softmax, and its recipe says {recipe.scores}")
    if eager.identity.model.runtime != "eager" or eager.identity.model.precision != "float32":
        raise UnlikePeersError("they serve a module of PyTorch in float32, and the store has no such archive of it")
    if spec.channels not in _MODES or spec.fit == "pad" or spec.crop_offset != "round":
        raise UnlikePeersError(
            "they prepare pictures with torchvision's transforms, which lack what its recipe asks for"
        )


def preparation(spec: Input) -> dict[str, object]:
    """The arguments of torchvision's transforms that prepare pictures as this recipe says.

    `ToTensor` makes 0…1 of levels, so mean and std are given on that scale, whatever the recipe's own is.
    """
    scale = spec.statistics.scale * _LEVELS
    return {
        "mode": _MODES[spec.channels],
        "resize": list(spec.scaled) if spec.fit == "squash" else spec.scaled[0],
        "interpolation": spec.interpolation,
        "crop": list(spec.size),
        "mean": [value / scale for value in spec.mean],
        "std": [value / scale for value in spec.std],
    }
