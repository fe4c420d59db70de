"""A classifier that takes its time, so that requests wait in the queue of any server under load."""

import time

from torch import Tensor, nn

_BATCH_S = 0.15  # what a forward takes, whatever the size of its batch


class SlowNet(nn.Module):
    """Float32 [N,3,32,32] to logits [N,3], by the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(3, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        time.sleep(_BATCH_S)
        logits: Tensor = self.classifier(pixels.mean((2, 3)))
        return logits
