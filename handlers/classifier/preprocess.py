"""An RGB picture to the square of pixels that a model looks at, and pixels to the floats that it computes with."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from classifier.recipe import Interpolation, Normalization

_RESAMPLING: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

# Per-channel mean and standard deviation, RGB, on pixels scaled to 0…1.
NORMALIZATIONS: dict[Normalization, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # statistics of ImageNet; torchvision's models
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # -1…1; TensorFlow's models
}


def resize_and_crop(image: Image.Image, resize: int, crop: int, interpolation: Interpolation) -> NDArray[np.uint8]:
    """Resize the short side of an RGB picture to `resize` pixels and cut the middle `crop` x `crop` out.

    The rounding is torchvision's (`Resize`, then `CenterCrop`), but only the pixels of the crop are computed: a picture
    of 1 x 20,000 costs no more than a square one.

    Returns:
        uint8 [crop, crop, 3].
    """
    width, height = image.size
    short, long = sorted((width, height))
    resized_long = int(resize * long / short)
    resized_width, resized_height = (resize, resized_long) if width <= height else (resized_long, resize)
    left = round((resized_width - crop) / 2)
    top = round((resized_height - crop) / 2)
    across, down = width / resized_width, height / resized_height
    box = (left * across, top * down, (left + crop) * across, (top + crop) * down)
    return np.asarray(image.resize((crop, crop), _RESAMPLING[interpolation], box=box))


def normalize(pixels: Tensor, normalization: Normalization) -> Tensor:
    """Uint8 [N,H,W,3] to float32 [N,3,H,W]: scaled to 0…1, less the mean, over the standard deviation.

    The memory order stays that of the pixels, which is torch's channels_last.
    """
    mean, std = (torch.tensor(values, device=pixels.device) for values in NORMALIZATIONS[normalization])
    return pixels.to(torch.float32).div_(255).sub_(mean).div_(std).permute(0, 3, 1, 2)
