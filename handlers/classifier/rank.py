"""Logits to ranked predictions."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from classifier.labels import Label
from classifier.recipe import Scores


class Prediction(msgspec.Struct, frozen=True):
    """One class and its probability, 0…1."""

    class_id: str
    class_name: str
    probability: float

    @property
    def full_name(self) -> str:
        """The id and the name of the class, as the field `class` of an answer has them."""
        return Label(self.class_id, self.class_name).full_name


def probabilities(outputs: NDArray[Any], scores: Scores = "softmax") -> NDArray[np.float32]:
    """Turn a model's outputs into probabilities, in float32, whatever precision they came in.

    Args:
        outputs: [N,classes].
        scores: `softmax` (one class is right), `sigmoid` (each class for itself), `none` (they are probabilities).

    Returns:
        float32 [N,classes].
    """
    values = np.asarray(outputs, np.float32)
    if scores == "none":
        return values
    with np.errstate(invalid="ignore", over="ignore"):  # infinite logits become nan, for the caller to notice
        if scores == "sigmoid":
            one = np.float32(1)
            return np.where(np.isfinite(values), one / (one + np.exp(-values)), np.float32("nan"))
        powers: NDArray[np.float32] = np.exp(values - values.max(axis=1, keepdims=True))
        powers /= powers.sum(axis=1, keepdims=True)
    return powers


def top_k(row: NDArray[np.float32], labels: list[Label], k: int, threshold: float | None = None) -> list[Prediction]:
    """The `k` likeliest classes of one row of probabilities [classes], likeliest first; none below a threshold."""
    last = -np.partition(-row, k - 1)[k - 1]  # sorting thousands of classes would take many times as long
    candidates = np.flatnonzero(~(row < last))  # and what is no number, which comes last
    best = candidates[np.argsort(-row[candidates], kind="stable")][:k]
    if threshold is not None:
        best = best[row[best] >= threshold]
    return [Prediction(labels[index].class_id, labels[index].class_name, float(row[index])) for index in best.tolist()]
