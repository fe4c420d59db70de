"""Logits to ranked predictions."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from classifier.labels import Label


class Prediction(msgspec.Struct, frozen=True):
    """One class and its probability, 0…1."""

    class_id: str
    class_name: str
    probability: float

    @property
    def full_name(self) -> str:
        """The id and the name of the class, as the field `class` of an answer has them."""
        return f"{self.class_id} {self.class_name}"


def probabilities(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Softmax of logits [N,classes] in float32, whatever precision they came in."""
    values = np.asarray(logits, np.float32)
    with np.errstate(invalid="ignore"):  # infinite logits become nan, for the caller to notice
        powers: NDArray[np.float32] = np.exp(values - values.max(axis=1, keepdims=True))
        powers /= powers.sum(axis=1, keepdims=True)
    return powers


def top_k(row: NDArray[np.float32], labels: list[Label], k: int) -> list[Prediction]:
    """The `k` likeliest classes of one row of probabilities [classes], likeliest first."""
    best = np.argsort(-row, kind="stable")[:k]
    return [Prediction(labels[index].class_id, labels[index].class_name, float(row[index])) for index in best.tolist()]
