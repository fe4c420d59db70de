"""The sample pictures of the page, each with the answers that the archive gives, and thumbnails."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from classifier.decode import decode
from classifier.input import PILLOW_LIMIT
from classifier.pipeline import Classifier, Pixels, load_pixels
from classifier.problems import Problem
from classifier.rank import Prediction
from numpy.typing import NDArray

from scripts.building.golden import golden_set, pictures_in

SHOWN: Final = 24  # pictures on the page, of a folder that may have thousands
TOP: Final = 5  # answers to each

_SIDE: Final = 192  # pixels of a thumbnail's long side: twice what it takes on the page, for sharp screens
_QUALITY: Final = 75


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A picture with the archive's answers, likeliest first, or with the problem that it has."""

    number: int  # from 1, by which the plots name it
    name: str
    thumbnail: str | None  # a `data:` address; None if the picture cannot be read
    answers: list[Prediction]
    problem: str | None
    pixels: Pixels | None  # as the model sees it


class Outputs(msgspec.Struct, frozen=True):
    """What a model computes from the samples that can be read, in their order: float32 [N,classes] each."""

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]


def sample_paths(folder: Path | None) -> tuple[list[Path], int]:
    """The pictures to show, and how many there are: those of the folder or, without one, of the golden set.

    Raises:
        UserError: the folder has no pictures.
    """
    paths = golden_set() if folder is None else pictures_in(folder, "PICTURES")
    return paths[:SHOWN], len(paths)


def read_samples(paths: Sequence[Path], classifier: Classifier) -> list[Sample]:
    """Classify pictures, as a server would."""
    contents = [path.read_bytes() for path in paths]
    answers = classifier.classify(contents, [min(TOP, len(classifier.labels))] * len(contents))
    return [
        _sample(number, path.name, content, answer, classifier)
        for number, (path, content, answer) in enumerate(zip(paths, contents, answers, strict=True), 1)
    ]


def _sample(
    number: int, name: str, content: bytes, answer: list[Prediction] | Problem, classifier: Classifier
) -> Sample:
    failed = isinstance(answer, Problem)
    pixels = None if failed else load_pixels(content, classifier.recipe.input)
    return Sample(
        number=number,
        name=name,
        thumbnail=thumbnail(content),
        answers=[] if isinstance(answer, Problem) else answer,
        problem=f"{answer.title}: {answer.detail}" if isinstance(answer, Problem) else None,
        pixels=None if isinstance(pixels, Problem) else pixels,
    )


def outputs(samples: Sequence[Sample], classifier: Classifier) -> Outputs:
    """What a model computes from the samples that can be read, of which there must be one."""
    pixels = np.stack([sample.pixels for sample in samples if sample.pixels is not None])
    return Outputs(classifier.logits(pixels), classifier.probabilities(pixels))


def thumbnail(content: bytes) -> str | None:
    """A small WebP of a picture, whole and upright, as a `data:` address; None if the picture cannot be read."""
    try:
        image = decode(content, PILLOW_LIMIT)
    except Problem:
        return None
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
