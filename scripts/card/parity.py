"""How much an archive's answers differ from those of its float32 reference, picture by picture."""

from collections.abc import Sequence
from itertools import compress

import msgspec
import numpy as np
from classifier.labels import Label

from scripts.archives.store import Archive
from scripts.card.pictures import Outputs, Sample


class Answered(msgspec.Struct, frozen=True):
    """The likeliest class of a picture and its probability."""

    label: Label
    probability: float


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One picture, answered by the reference and by the archive."""

    number: int  # of the sample
    name: str
    logit: float  # the largest difference of any logit
    probability: float  # the largest difference of any probability
    expected: Answered  # by the reference
    actual: Answered
    same: bool  # whether the likeliest class is the same


def is_reference(archive: Archive, other: Archive) -> bool:
    """Whether an archive is the reference of another: the same weights in float32, computed eagerly."""
    model = archive.identity.model
    same = archive.identity.weights_sha256 == other.identity.weights_sha256
    return same and model.name == other.identity.model.name and (model.runtime, model.precision) == ("eager", "float32")


def differences(
    samples: Sequence[Sample], expected: Outputs, actual: Outputs, labels: Sequence[Label]
) -> list[Difference]:
    """Compare what the reference and the archive compute from each sample that can be read."""
    readable = compress(samples, (sample.pixels is not None for sample in samples))
    logits = np.abs(actual.logits - expected.logits).max(axis=1)
    probabilities = np.abs(actual.probabilities - expected.probabilities).max(axis=1)
    best, own = (found.probabilities.argmax(axis=1) for found in (expected, actual))
    return [
        Difference(
            number=sample.number,
            name=sample.name,
            logit=float(logits[row]),
            probability=float(probabilities[row]),
            expected=Answered(labels[best[row]], float(expected.probabilities[row, best[row]])),
            actual=Answered(labels[own[row]], float(actual.probabilities[row, own[row]])),
            same=bool(best[row] == own[row]),
        )
        for row, sample in enumerate(readable)
    ]
