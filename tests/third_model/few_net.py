"""A classifier of three classes: which of red, green and blue a picture has most of."""

import torch
from torch import Tensor, nn


class FewNet(nn.Module):
    """Float32 [N,3,H,W] to logits [N,3]. As it is made it knows its classes, so tests know every right answer."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.colours.weight.copy_(2 * torch.eye(3)[:, :, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.colours(pixels).mean((2, 3))
        return logits
