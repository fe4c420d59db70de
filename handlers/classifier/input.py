"""The `input` of a recipe: how a decoded picture becomes a model's input."""

import math
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest"]
Fit = Literal["crop", "squash", "pad"]
Channels = Literal["rgb", "bgr", "grey"]
Layout = Literal["nchw", "nhwc"]
CropOffset = Literal["round", "floor"]  # of half a pixel: torchvision rounds to even, transformers rounds down

PILLOW_LIMIT: Final = 178_956_970  # pixels, 2 * Image.MAX_IMAGE_PIXELS; Pillow itself refuses larger pictures
_MAX_PIXELS: Final = 64_000_000  # 192 MB in RGB; phone cameras have 12 to 50 million pixels
_CROP: Final = 224
_CROP_PERCENTAGE: Final = 0.875  # 224 of 256, as most models of ImageNet are evaluated
_MAX_SIDE: Final = 4096  # of a model's input, in pixels: a crop of that size is 50 MB
_MAX_SCALED: Final = math.isqrt(PILLOW_LIMIT)  # 13,377 pixels of a side, to which a picture is resized
UNIT_SCALE: Final = 1 / 255  # levels to 0…1
# Grey from RGB, in 65536ths: ITU-R 601, the numbers of Pillow's conversion to L.
GREY_WEIGHTS: Final = (19595.0, 38470.0, 7471.0)
GREY_SHIFT: Final = 65536.0

_Positive = Annotated[int, Meta(ge=1)]
_Side = Annotated[int, Meta(ge=1, le=_MAX_SIDE)]
_Size = Annotated[list[_Side], Meta(min_length=2, max_length=2)]
_PerChannel = Annotated[list[float], Meta(min_length=1, max_length=3)]


def _listed(values: float | list[float], count: int = 1) -> list[float]:
    """One number, or a list of one, as `count` numbers; a longer list as it is."""
    listed = values if isinstance(values, list) else [values]
    return listed * count if len(listed) == 1 else listed


class Normalization(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How levels 0…255 become floats: `(level * scale - mean) / std`, with one mean and std or one for each channel."""

    mean: float | _PerChannel = 0.0
    std: float | _PerChannel = 1.0
    scale: Annotated[float, Meta(gt=0)] = UNIT_SCALE

    def __post_init__(self) -> None:
        """Refuse what cannot be divided by."""
        if any(not math.isfinite(value) for value in (*_listed(self.mean), *_listed(self.std), self.scale)):
            raise ValueError("mean, std and scale must be finite numbers")
        if any(value <= 0 for value in _listed(self.std)):
            raise ValueError("std must be above 0")


NORMALIZATIONS: Final = {
    # statistics of ImageNet; torchvision's models
    "imagenet": Normalization(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    "half": Normalization(mean=0.5, std=0.5),  # -1…1; TensorFlow's models
}


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a decoded picture becomes the model's input. Sizes are in pixels."""

    crop: _Side | _Size = _CROP
    resize: _Positive | None = None
    crop_percentage: Annotated[float, Meta(gt=0, le=1)] | None = None
    crop_offset: CropOffset = "round"
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"
    channels: Channels = "rgb"
    normalization: Literal["imagenet", "half"] | Normalization = "imagenet"
    layout: Layout = "nchw"
    batch: _Positive | None = None
    max_pixels: Annotated[int, Meta(ge=1, le=PILLOW_LIMIT)] = _MAX_PIXELS

    def __post_init__(self) -> None:
        """Refuse sizes that contradict each other, and more means than channels."""
        if self.resize is not None and self.crop_percentage is not None:
            raise ValueError("resize and crop_percentage say the same; keep one of them")
        if self.resize is not None and self.fit != "crop":
            raise ValueError(
                f"resize is for fit: crop; with fit: {self.fit} the picture is resized to the size of crop"
            )
        if self.crop_percentage is not None and self.fit == "pad":
            raise ValueError("crop_percentage is not for fit: pad, which cuts nothing off")
        if self.resize is not None and max(self.size) > self.resize:
            raise ValueError(f"crop ({max(self.size)}) must not be larger than resize ({self.resize})")
        if (self.resize or max(self.size) / (self.crop_percentage or 1)) > _MAX_SCALED:
            field = "resize" if self.resize else "crop_percentage"
            raise ValueError(f"{field}: the sides of pictures would be resized to more than {_MAX_SCALED} pixels")
        for name, values in (("mean", self.statistics.mean), ("std", self.statistics.std)):
            if len(_listed(values)) not in (1, self.depth):
                raise ValueError(f"normalization.{name} has {len(_listed(values))} values for {self.depth} channels")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input."""
        return (self.crop, self.crop) if isinstance(self.crop, int) else (self.crop[0], self.crop[1])

    @property
    def depth(self) -> int:
        """The number of channels of the model's input."""
        return 1 if self.channels == "grey" else 3

    @property
    def scaled(self) -> tuple[int, int]:
        """Height and width of the area that a picture is resized to, of which the crop is the middle.

        With `fit: crop` it is the short side twice: the other side keeps the picture's shape.
        """
        if self.fit == "pad":
            return self.size
        if self.fit == "squash":
            height, width = (math.floor(side / (self.crop_percentage or 1)) for side in self.size)
            return height, width
        short = self.resize or math.floor(max(self.size) / (self.crop_percentage or _CROP_PERCENTAGE))
        return short, short

    @property
    def statistics(self) -> Normalization:
        """The normalisation as numbers."""
        return NORMALIZATIONS[self.normalization] if isinstance(self.normalization, str) else self.normalization

    @property
    def mean(self) -> list[float]:
        """The mean of each of the model's channels, in their order, on levels times `scale`."""
        return _listed(self.statistics.mean, self.depth)

    @property
    def std(self) -> list[float]:
        """The standard deviation of each of the model's channels, as `mean`."""
        return _listed(self.statistics.std, self.depth)

    @property
    def example_batch(self) -> int:
        """A batch size that the model takes: the fixed one, or two, because torch treats a batch of one specially."""
        return self.batch or 2
