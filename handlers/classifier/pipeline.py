"""The path of a picture: bytes -> decode -> crop -> batch -> forward -> probabilities -> ranked predictions."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifier.cpu import usable_cores
from classifier.decode import See, decode_scaled, prepare
from classifier.forks import Threads
from classifier.identity import LABELS_FILE, RECIPE_FILE, Identity, read_identity
from classifier.input import Input
from classifier.labels import Label, read_labels
from classifier.own_code import own_code
from classifier.preprocess import resize_and_crop
from classifier.problems import Internal, Problem
from classifier.rank import Prediction, probabilities, top_k
from classifier.recipe import Recipe, Serving, read_recipe
from classifier.record import Record
from classifier.runtimes import Forward, Source, load_runtime

# A scaled JPEG decode keeps the short side at least this many times as long as the resize needs. Measured on
# 12-megapixel photographs: with this margin decoding takes 15 ms, and pixels differ from those of the full decode by
# 0.19 levels on average; without margin, 13 ms and 0.47 levels.
_DECODE_MARGIN = 2

Picture = bytes | Image.Image
Pixels = NDArray[np.uint8]  # [H,W,3] of one picture, [N,H,W,3] of a batch, of the size that the model sees

_Found = TypeVar("_Found")


class Classifier(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model with all that it takes to classify pictures."""

    recipe: Recipe
    identity: Identity
    labels: list[Label]
    source: Source
    forward: Forward
    decoders: Threads  # Pillow releases Python's lock while it decodes and resizes

    @classmethod
    def load(cls, directory: Path, device: str = "cpu", threads: int | None = None) -> "Classifier":
        """Load an unpacked archive.

        Args:
            directory: the unpacked archive.
            device: as torch names it, `cpu` or `cuda:0`.
            threads: how many threads compute; the recipe's number by default.

        Raises:
            UnusableError: a file of the archive cannot be used; the message names it.
            OSError: a file is missing.
        """
        recipe, identity = read_recipe(directory / RECIPE_FILE), read_identity(directory)
        model = identity.model
        threads = threads or threads_per_worker(recipe.serving)
        source = Source(
            directory=directory,
            serialized_file=identity.serialized_file,
            recipe=recipe,
            variant=recipe.variant(model.runtime, model.precision),
            threads=threads,
            device=device,
            code=own_code(directory),
        )
        return cls(
            recipe=recipe,
            identity=identity,
            labels=read_labels(directory / LABELS_FILE),
            source=source,
            forward=load_runtime(source),
            decoders=Threads(threads, "decode"),
        )

    def classify(
        self, images: Sequence[Picture | Problem], top: Sequence[int], record: Record | None = None
    ) -> list[list[Prediction] | Problem]:
        """Classify pictures in as few forward passes as the recipe's batch size allows.

        Args:
            images: pictures, as bytes or Pillow's; a problem stands in place of a picture that could not be read.
            top: how many classes to return for each, 1 … number of classes.
            record: takes down how long each stage took, and what the pictures were like.

        Returns:
            For each picture its predictions, likeliest first, or its problem. With the recipe's threshold there may be
            fewer than asked for, or none.
        """
        record = record or Record()
        threshold = self.recipe.threshold
        with record.stage("decode"):
            pixels = _compute_good(images, partial(self._decode, see=record.see))
        with record.stage("forward"):
            rows = _compute_good(pixels, self._rows)
        with record.stage("rank"):
            record.scores += [row for row in rows if not isinstance(row, Problem)]
            return [
                row if isinstance(row, Problem) else top_k(row, self.labels, k, threshold)
                for row, k in zip(rows, top, strict=True)
            ]

    def _decode(self, images: Sequence[Picture], see: See) -> list[Pixels | Problem]:
        load = partial(load_pixels, spec=self.recipe.input, see=see)
        return [load(image) for image in images] if len(images) < 2 else self.decoders.map(load, images)

    def _rows(self, pixels: Sequence[Pixels]) -> list[NDArray[np.float32] | Problem]:
        """For each picture its probabilities [classes], or an internal problem where the model failed."""
        try:
            rows = self.probabilities(np.stack(pixels))
        except Exception as error:
            return [internal_problem(error) for _ in pixels]
        return [row if finite(row) else internal_problem(ValueError("the logits are not finite")) for row in rows]

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pixels [N,H,W,3] to probabilities [N,classes].

        Raises:
            ValueError: the model does not return one logit for each label.
        """
        logits = self.logits(pixels)
        if logits.shape != (len(pixels), len(self.labels)):
            raise ValueError(f"logits {list(logits.shape)} for {len(pixels)} pictures and {len(self.labels)} labels")
        return probabilities(logits, self.recipe.scores)

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pixels [N,H,W,3] to logits [N,classes], in batches of at most the recipe's size."""
        size = self.recipe.serving.batch_size
        batches = [self.forward(pixels[start : start + size]) for start in range(0, len(pixels), size)]
        return batches[0] if len(batches) == 1 else np.concatenate(batches)

    def warm_up(self) -> None:
        """Run the batch sizes that a server will see, so that the first client does not pay for it.

        Raises:
            ValueError: the model does not return one finite logit for each label.
        """
        for size in {1, self.recipe.serving.batch_size}:
            if not finite(self.probabilities(np.zeros((size, *self.recipe.input.size, 3), np.uint8))):
                raise ValueError("the logits of a black picture are not finite")


def _compute_good(
    items: Sequence[Any], compute: Callable[[list[Any]], list[_Found | Problem]]
) -> list[_Found | Problem]:
    """Compute the good items of a batch together. Each result takes the place of its item; problems stay in theirs.

    Args:
        items: each either good, or a problem, which is returned as it is.
        compute: returns a result or a problem for each good item, in their order. Not called if there are none.
    """
    good = [item for item in items if not isinstance(item, Problem)]
    results = iter(compute(good) if good else ())
    return [item if isinstance(item, Problem) else next(results) for item in items]


def load_pixels(image: Picture, spec: Input, see: See = lambda *_: None) -> Pixels | Problem:
    """Turn a picture into the uint8 [H,W,3] that the model sees, or return its problem; `see` as of `decode_scaled`."""
    try:
        if isinstance(image, Image.Image):
            return resize_and_crop(prepare(image, spec.max_pixels), spec)
        decoded, extent = decode_scaled(image, spec.max_pixels, round(_DECODE_MARGIN * max(spec.scaled)), see)
        return resize_and_crop(decoded, spec, extent)
    except Problem as problem:
        return problem.forget_origin()
    except Exception as error:  # out of memory, for example: only this picture fails
        return internal_problem(error)


def finite(values: NDArray[np.float32]) -> bool:
    """Whether no value is infinite or nan."""
    return bool(np.isfinite(values).all())


def internal_problem(cause: Exception) -> Internal:
    """The problem that tells a client of a failure of the server.

    It carries the cause, for the caller to log: only the caller knows the request.
    """
    problem = Internal("the classifier failed; the server's log has the reason, under the id of this request")
    problem.__cause__ = cause
    return problem


def threads_per_worker(serving: Serving) -> int:
    """How many threads one worker computes with, by the recipe: a number, all usable cores, or its share of them."""
    cores = usable_cores()
    if serving.threads == "all":
        return cores
    if serving.threads == "share":
        return max(1, cores // serving.workers)
    return serving.threads
