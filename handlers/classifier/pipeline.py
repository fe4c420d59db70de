"""The way of a picture: bytes -> decode -> crop -> batch -> forward -> probabilities -> ranked predictions."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classifier.decode import decode
from classifier.identity import LABELS_FILE, RECIPE_FILE, Identity, read_identity
from classifier.labels import Label, read_labels
from classifier.preprocess import resize_and_crop
from classifier.problems import Internal, Problem
from classifier.rank import Prediction, probabilities, top_k
from classifier.recipe import Input, Recipe, Serving, read_recipe
from classifier.runtimes import Forward, Source, load_runtime


class Classifier(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model and what is needed to use it: pictures in, predictions out."""

    recipe: Recipe
    identity: Identity
    labels: list[Label]
    forward: Forward

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> "Classifier":
        """Load an unpacked archive onto a torch device (`cpu`, `cuda:0`).

        Raises:
            UnusableError: a file of the archive cannot be used; the message names it.
            OSError: a file is missing.
        """
        recipe, identity = read_recipe(directory / RECIPE_FILE), read_identity(directory)
        torch.set_num_threads(threads_per_worker(recipe.serving))
        source = Source(directory=directory, serialized_file=identity.serialized_file, recipe=recipe)
        return cls(
            recipe=recipe,
            identity=identity,
            labels=read_labels(directory / LABELS_FILE),
            forward=load_runtime(identity.model.runtime, source, device),
        )

    def classify(self, images: Sequence[bytes], top: Sequence[int]) -> list[list[Prediction] | Problem]:
        """Classify pictures in as few forward passes as the recipe's batch size allows.

        Args:
            images: the bytes of each picture.
            top: how many classes to return for each, 1 … number of classes.

        Returns:
            For each picture its predictions, likeliest first, or what is wrong with it.
        """
        pixels = [load_pixels(image, self.recipe.input) for image in images]
        good = [item for item in pixels if not isinstance(item, Problem)]
        rows = iter(self.probabilities(torch.from_numpy(np.stack(good))) if good else ())
        return [
            item if isinstance(item, Problem) else top_k(next(rows), self.labels, k)
            for item, k in zip(pixels, top, strict=True)
        ]

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Uint8 [N,H,W,3] to float32 probabilities [N,classes].

        Raises:
            Internal: the model's output is not finite, or not of the labels' length.
        """
        logits = torch.cat([self.forward(batch) for batch in pixels.split(self.recipe.serving.batch_size)])
        if logits.shape != (len(pixels), len(self.labels)) or not bool(torch.isfinite(logits).all()):
            raise Internal(f"the model returned logits of shape {list(logits.shape)} or values that are not finite")
        return probabilities(logits)

    def warm_up(self) -> None:
        """Run the batch sizes that a server will see, so that the first client does not pay for it.

        Raises:
            Internal: the model does not answer, or not with one logit for each label.
        """
        side = self.recipe.input.crop
        for size in {1, self.recipe.serving.batch_size}:
            self.probabilities(torch.zeros(size, side, side, 3, dtype=torch.uint8))


def load_pixels(image: bytes, spec: Input) -> NDArray[np.uint8] | Problem:
    """Bytes of a picture to the uint8 [crop,crop,3] that the model sees, or what is wrong with them."""
    try:
        return resize_and_crop(decode(image, spec.max_pixels), spec.resize, spec.crop, spec.interpolation)
    except Problem as problem:
        return problem
    except Exception as error:  # out of memory, say: still only this picture's trouble
        internal = Internal("the picture could not be decoded; the server's log has the reason")
        internal.__cause__ = error  # for that log; the pipeline does not know whose picture it is
        return internal


def threads_per_worker(serving: Serving) -> int:
    """How many threads one worker computes with: as the recipe says, or its share of the usable cores."""
    if serving.threads == "all":
        return max(1, len(os.sched_getaffinity(0)) // serving.workers)
    return serving.threads
