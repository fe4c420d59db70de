"""A classifier whose worker needs more memory with every batch, for tests of who notices."""

import torch
from torch import Tensor, nn

_KEPT = 8 * 2**20  # floats that each batch leaves, 32 MB


class LeakingNet(nn.Module):
    """Float32 [N,3,32,32] to logits [N,3], by the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(3, 3)
        self.kept: list[Tensor] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.kept.append(torch.ones(_KEPT))
        logits: Tensor = self.classifier(pixels.mean((2, 3)))
        return logits
