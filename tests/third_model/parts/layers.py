"""Layers that architectures share."""

from torch import nn


def stem(channels: int) -> nn.Module:
    """Pictures [N,3,H,W] to features [N,channels]."""
    return nn.Sequential(nn.Conv2d(3, channels, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
