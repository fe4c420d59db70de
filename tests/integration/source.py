"""What a source of `make adopt` is: files, variables, and its own library's way from a picture to probabilities."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from classifier.recipe import RuntimeName
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

Pipeline = Callable[[Path], NDArray[np.float32]]  # a picture's file to the probability of each class
Transform = Callable[[Image.Image], Tensor]  # float32 [C,H,W]


class Place(NamedTuple):
    """Where a source puts its files, and the pictures that its classes are."""

    folder: Path
    pictures: Sequence[Path]

    @property
    def recipes(self) -> Path:
        return self.folder / "recipes"

    @property
    def labels(self) -> Path:
        """One name a line, in the order of the classes: each picture is one."""
        path = self.folder / "classes.txt"
        path.write_text("".join(f"{picture.stem}\n" for picture in self.pictures))
        return path

    def inputs(self, transform: Transform) -> list[Tensor]:
        return [transform(opened(picture)) for picture in self.pictures]


class Made(NamedTuple):
    """The variables of `make adopt`, and the source's own pipeline."""

    variables: dict[str, str | Path]
    pipeline: Pipeline


class Source(NamedTuple):
    """A source by its name in the table."""

    name: str
    make: Callable[[Place], Made]
    quick: tuple[RuntimeName, ...] = ()  # those that `make test` serves it in; none: only `make test-all` does
    trained: bool = False  # with real weights, which lower precisions must not change much either


def opened(picture: Path) -> Image.Image:
    return Image.open(picture).convert("RGB")


def of_network(network: nn.Module, transform: Transform) -> Pipeline:
    """The usual pipeline: transform, compute, softmax."""

    @torch.inference_mode()
    def pipeline(picture: Path) -> NDArray[np.float32]:
        outputs = network(transform(opened(picture))[None])
        logits = getattr(outputs, "logits", outputs)
        probabilities: NDArray[np.float32] = logits.softmax(1)[0].numpy()
        return probabilities

    return pipeline
