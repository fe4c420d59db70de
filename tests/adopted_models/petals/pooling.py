import torch
from torch import Tensor


def spread(features: Tensor) -> Tensor:
    """The mean of each channel [N,C,H,W], and how far it varies: [N,2C]."""
    return torch.cat([features.mean((2, 3)), features.std((2, 3))], 1)
