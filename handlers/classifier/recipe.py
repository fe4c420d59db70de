"""A recipe: everything about one model that is not code, read from YAML and checked."""

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from classifier.errors import DECODE_ERRORS, UnusableError

RuntimeName = Literal["eager", "torchscript", "aotinductor", "onnxruntime", "openvino"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]
Interpolation = Literal["bilinear", "bicubic"]
Normalization = Literal["imagenet", "half"]  # preprocess.py has the numbers
Answers = Literal["full", "stock"]  # stock: as TorchServe's own image_classifier answers

# What each runtime can compute in. float16 is for GPUs: processors with instructions for it are rare.
PRECISIONS: dict[RuntimeName, tuple[Precision, ...]] = {
    "eager": ("float32", "bfloat16", "float16"),
    "torchscript": ("float32",),
    "aotinductor": ("float32",),
    "onnxruntime": ("float32",),
    "openvino": ("float32", "bfloat16", "int8"),
}
_SELECTIVE = (("openvino", "bfloat16"), ("openvino", "int8"))  # these can leave some layers in float32

VERSION_PATTERN = re.compile(r"^[0-9]+(\.[0-9]+)*\Z")
_Positive = Annotated[int, Meta(ge=1)]
# Threads of one worker: a number, all usable cores, or its share of them when there are several workers.
Threads = _Positive | Literal["all", "share"]
PILLOW_LIMIT = 178_956_970  # pixels, 2 * Image.MAX_IMAGE_PIXELS; Pillow itself refuses larger pictures
_Share = Annotated[float, Meta(ge=0, le=1)]
_Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z")]


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a decoded picture becomes the model's input. Sizes are in pixels."""

    resize: _Positive
    crop: _Positive
    interpolation: Interpolation = "bilinear"
    normalization: Normalization = "imagenet"
    max_pixels: Annotated[int, Meta(ge=1, le=PILLOW_LIMIT)]

    def __post_init__(self) -> None:
        """Refuse a crop that would reach beyond the resized picture."""
        if self.crop > self.resize:
            raise ValueError(f"crop ({self.crop}) must not be larger than resize ({self.resize})")


class Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a server runs the model. TorchServe's own keys for these are written when the archive is built."""

    batch_size: _Positive
    max_batch_delay_ms: _Positive  # TorchServe reads 0 as "the default", 100 ms
    workers: _Positive
    threads: Threads = "share"
    max_instances: _Positive  # pictures in one JSON request
    response_timeout_s: _Positive = 120
    startup_timeout_s: _Positive = 300


class OwnServing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The settings of one archive that replace those of the recipe's `serving`; a missing one stays the recipe's."""

    batch_size: _Positive | None = None
    max_batch_delay_ms: _Positive | None = None
    workers: _Positive | None = None
    threads: Threads | None = None


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far an archive may differ from the float32 eager reference over the golden set; otherwise it is not built."""

    max_abs_logit: Annotated[float, Meta(ge=0)]
    top1_agreement: _Share = 1.0
    top5_agreement: _Share = 1.0


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One archive that can be built of the model, with a version of its own."""

    runtime: RuntimeName
    precision: Precision = "float32"
    version: Annotated[str, Meta(pattern=VERSION_PATTERN.pattern)]
    tolerance: Tolerance
    serving: OwnServing = OwnServing()
    float32_layers: list[str] = []  # whose precision is not lowered: modules by their names in the architecture

    def __post_init__(self) -> None:
        """Refuse what the runtime cannot compute."""
        if self.precision not in PRECISIONS[self.runtime]:
            raise ValueError(f"{self.runtime} computes in {', '.join(PRECISIONS[self.runtime])}, not {self.precision}")
        if self.float32_layers and (self.runtime, self.precision) not in _SELECTIVE:
            raise ValueError("float32_layers is for openvino in bfloat16 and int8")


class Mobile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the int8 program for phones needs."""

    float32_layers: list[str] = []  # blocks that stay in float32, by their names in the architecture


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model. `recipes/README.md` explains every field."""

    name: _Name
    architecture: _Name  # handlers/<architecture>.py, which holds one nn.Module class
    weights: str
    labels: str
    input: Input
    answers: Answers = "full"
    serving: Serving
    archives: Annotated[list[Variant], Meta(min_length=1)]
    mobile: Mobile = Mobile()

    def __post_init__(self) -> None:
        """Refuse archives that could not be told apart, by file name or by version."""
        kinds = {(variant.runtime, variant.precision) for variant in self.archives}
        versions = {variant.version for variant in self.archives}
        if min(len(kinds), len(versions)) < len(self.archives):
            raise ValueError("archives must differ in runtime or precision, and each needs a version of its own")

    def variant(self, runtime: str, precision: str) -> Variant:
        """The variant of that runtime and precision.

        Raises:
            UnusableError: the recipe has none; the message lists those it has.
        """
        for variant in self.archives:
            if (variant.runtime, variant.precision) == (runtime, precision):
                return variant
        known = ", ".join(f"{variant.runtime} {variant.precision}" for variant in self.archives)
        raise UnusableError(f"recipe {self.name} has no archive for {runtime} {precision}; it has: {known}")


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        UnusableError: a field is missing, unknown or out of range; the message names the file and the field.
        OSError: the file cannot be read.
    """
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=Recipe)
    except DECODE_ERRORS as error:
        raise UnusableError(f"{path}: {error}") from error
