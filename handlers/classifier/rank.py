"""Logits to ranked predictions."""

import msgspec
import torch
from torch import Tensor

from classifier.labels import Label


class Prediction(msgspec.Struct, frozen=True):
    """One class and how likely the model thinks it, 0…1."""

    class_id: str
    class_name: str
    probability: float


def probabilities(logits: Tensor) -> Tensor:
    """Softmax of logits [N, classes] in float32, whatever precision they came in."""
    return torch.softmax(logits.to(torch.float32), dim=-1)


def top_k(row: Tensor, labels: list[Label], k: int) -> list[Prediction]:
    """The `k` likeliest classes of one row of probabilities [classes], likeliest first."""
    values, indices = torch.topk(row, k)
    return [
        Prediction(labels[index].class_id, labels[index].class_name, value)
        for value, index in zip(values.tolist(), indices.tolist(), strict=True)
    ]
