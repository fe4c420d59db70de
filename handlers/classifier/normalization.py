"""Makes a model's input of pixels, with torch: for runtimes whose files do not hold this step."""

import torch
from torch import Tensor

from classifier.input import GREY_SHIFT, GREY_WEIGHTS, UNIT_SCALE, Input, Layout


def normalize(pixels: Tensor, spec: Input) -> Tensor:
    """Uint8 [N,H,W,3] in RGB to float32 [N,C,H,W] in the model's channels: scaled, less the mean, over the deviation.

    The memory order stays that of the pixels, which is torch's channels_last.
    """
    mean, std = (torch.tensor(values, device=pixels.device) for values in (spec.mean, spec.std))
    floats = _in_channels(pixels, spec)
    scale = spec.statistics.scale
    scaled = floats.div_(255) if scale == UNIT_SCALE else floats.mul_(scale)  # torchvision divides
    return scaled.sub_(mean).div_(std).permute(0, 3, 1, 2)


def _in_channels(pixels: Tensor, spec: Input) -> Tensor:
    """RGB levels [N,H,W,3] as float32 [N,H,W,C], a new tensor."""
    floats = pixels.to(torch.float32)
    if spec.channels == "bgr":
        return floats.flip(-1)
    if spec.channels == "grey":  # every number here is whole and below 2^24, so float32 is exact
        weighted = floats.mul(torch.tensor(GREY_WEIGHTS, device=pixels.device)).sum(-1, keepdim=True)
        return weighted.add(GREY_SHIFT / 2).div(GREY_SHIFT).floor()
    return floats


def laid_out(floats: Tensor, layout: Layout) -> Tensor:
    """Floats [N,C,H,W] in the order that a program takes."""
    return floats if layout == "nchw" else floats.permute(0, 2, 3, 1)
