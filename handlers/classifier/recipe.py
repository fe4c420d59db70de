"""A recipe: everything about one model that is not code, read from YAML and checked."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from classifier.document import decode
from classifier.errors import DECODE_ERRORS, UnusableError
from classifier.input import Input
from classifier.labels import Label
from classifier.places import ProgramKind, read_place, read_program

RuntimeName = Literal["eager", "torchscript", "aotinductor", "onnxruntime", "openvino", "ncnn"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]
Scores = Literal["softmax", "sigmoid", "none"]
Answers = Literal["full", "stock"]
Library = Literal["torchvision", "timm", "transformers"]

# What each runtime can compute in. float16 is for GPUs: processors with instructions for it are rare.
PRECISIONS: dict[RuntimeName, tuple[Precision, ...]] = {
    "eager": ("float32", "bfloat16", "float16"),
    "torchscript": ("float32",),
    "aotinductor": ("float32",),
    "onnxruntime": ("float32",),
    "openvino": ("float32", "bfloat16", "int8"),
    "ncnn": ("float32",),
}
# What each kind of program can be served in: as it is, or converted without its Python source.
PROGRAM_RUNTIMES: dict[ProgramKind, tuple[RuntimeName, ...]] = {
    "torchscript": ("torchscript", "ncnn"),
    "export": ("aotinductor", "onnxruntime", "openvino", "ncnn"),
    "onnx": ("onnxruntime", "openvino"),
}
# The versions of archives whose recipe does not say one.
_VERSIONS: dict[tuple[RuntimeName, Precision], str] = {
    ("eager", "float32"): "1.0",
    ("eager", "bfloat16"): "1.1",
    ("eager", "float16"): "1.2",
    ("torchscript", "float32"): "2.0",
    ("aotinductor", "float32"): "3.0",
    ("onnxruntime", "float32"): "4.0",
    ("openvino", "float32"): "5.0",
    ("openvino", "bfloat16"): "5.1",
    ("openvino", "int8"): "5.2",
    ("ncnn", "float32"): "6.0",
}
# The archives of a recipe that lists none. ncnn lacks operators that many models have.
_UNUSUAL = (("eager", "bfloat16"), ("eager", "float16"), ("ncnn", "float32"))
_USUAL: tuple[tuple[RuntimeName, Precision], ...] = tuple(kind for kind in _VERSIONS if kind not in _UNUSUAL)
_SELECTIVE = (("openvino", "bfloat16"), ("openvino", "int8"))  # these can leave some layers in float32

VERSION_PATTERN = re.compile(r"^[0-9]{1,18}(\.[0-9]{1,18})*\Z")  # Python refuses to read much longer numbers
# Of the input of one batch in float32. The first layers of a network need several times as much beside it.
_MAX_BATCH_BYTES = 4 * 2**30
_BYTES_OF_A_FLOAT = 4
_Positive = Annotated[int, Meta(ge=1)]
_NotNegative = Annotated[int, Meta(ge=0)]
_Version = Annotated[
    str, Meta(pattern=VERSION_PATTERN.pattern, description='text of digits and dots, such as "1.0" in quotes')
]
# Threads of one worker: a number, all usable cores, or its share of them when there are several workers.
Threads = _Positive | Literal["all", "share"]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z",
        description="a name of letters, digits and _ that begins with no digit",
    ),
]
_LIBRARIES: tuple[Library, ...] = ("torchvision", "timm", "transformers")
_Architecture = Annotated[
    str,
    Meta(
        pattern=r"^(((torchvision|timm|transformers):[A-Za-z0-9_][A-Za-z0-9_.-]*)"
        r"|([A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*(:[A-Za-z_][A-Za-z0-9_]*)?))\Z",
        description="a module, module:Class, or a name after torchvision:, timm: or transformers:",
    ),
]
# A package by its exact version, with extras and a marker as pip takes them.
_Requirement = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._, -]+\])? ?== ?[A-Za-z0-9][A-Za-z0-9.!+_-]*( ?;.*)?\Z",
        description="a package with its exact version, such as einops==0.8.2",
    ),
]


class Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a server runs the model. TorchServe's own keys for these are written when the archive is built."""

    batch_size: _Positive = 8
    max_batch_delay_ms: _NotNegative = 0  # of the first request, for others to join it; in TorchServe at least 1
    workers: _Positive = 1
    threads: Threads = "all"
    max_instances: _Positive = 64  # pictures in one JSON request
    response_timeout_s: _Positive = 120
    startup_timeout_s: _Positive = 300


class OwnServing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The settings of one archive that replace those of the recipe's `serving`; a missing one stays the recipe's."""

    batch_size: _Positive | None = None
    max_batch_delay_ms: _NotNegative | None = None
    workers: _Positive | None = None
    threads: Threads | None = None


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far an archive may differ from the float32 eager reference over the golden set; otherwise it is not built."""

    max_abs_logit: Annotated[float, Meta(ge=0)]
    top1_agreement: _Share = 1.0
    top5_agreement: _Share = 1.0


# Where a recipe has none, with `max_abs_logit` as a share of the largest output: a network's rounding errors grow with
# its outputs. bfloat16 rounds by at most 1/256 in each layer; over fifty layers that comes to 3 % at one standard
# deviation, and to a tenth at the largest of some thousands of outputs. float16 rounds by an eighth of that.
_USUAL_SHARES: dict[Precision, Tolerance] = {
    "float32": Tolerance(max_abs_logit=1e-4, top5_agreement=0.95),
    "bfloat16": Tolerance(max_abs_logit=0.1, top1_agreement=0.9, top5_agreement=0.5),
    "float16": Tolerance(max_abs_logit=0.0125, top1_agreement=0.95, top5_agreement=0.75),
    "int8": Tolerance(max_abs_logit=0.2, top1_agreement=0.75, top5_agreement=0),
}


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One archive that can be built of the model, with a version of its own."""

    runtime: RuntimeName
    precision: Precision = "float32"
    version: _Version = ""
    tolerance: Tolerance | None = None
    serving: OwnServing = OwnServing()
    float32_layers: list[str] = []  # whose precision is not lowered: modules by their names in the architecture

    def __post_init__(self) -> None:
        """Refuse what the runtime cannot compute, and give an archive without a version its usual one."""
        if self.precision not in PRECISIONS[self.runtime]:
            raise ValueError(f"{self.runtime} computes in {', '.join(PRECISIONS[self.runtime])}, not {self.precision}")
        if self.float32_layers and (self.runtime, self.precision) not in _SELECTIVE:
            raise ValueError("float32_layers is for openvino in bfloat16 and int8")
        if not self.version:
            msgspec.structs.force_setattr(self, "version", _VERSIONS[self.runtime, self.precision])

    def allowed(self, largest: float) -> Tolerance:
        """How far the archive may differ: the recipe's tolerance, or the usual one of the precision.

        Args:
            largest: the largest absolute output of the reference over the golden set. The usual tolerance is a share of
                it, or of 1 if it is less: outputs near zero differ by rounding in the layers before.
        """
        if self.tolerance is not None:
            return self.tolerance
        usual = _USUAL_SHARES[self.precision]
        return msgspec.structs.replace(usual, max_abs_logit=usual.max_abs_logit * max(1.0, largest))


class Mobile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the int8 program for phones needs."""

    float32_layers: list[str] = []  # blocks that stay in float32, by their names in the architecture


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model. `recipes/README.md` explains every field."""

    name: _Name
    architecture: _Architecture | None = None
    arguments: dict[str, Any] = {}
    weights: str | None = None
    program: str | None = None
    labels: str | Annotated[list[str | Label], Meta(min_length=1)]
    input: Input = Input()
    scores: Scores = "softmax"
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    answers: Answers = "full"
    baseline: str | None = None
    requirements: list[_Requirement] = []
    serving: Serving = Serving()
    archives: Annotated[list[Variant], Meta(min_length=1)] = []
    mobile: Mobile = Mobile()

    def __post_init__(self) -> None:
        """Refuse fields that contradict each other, and list the usual archives where the recipe lists none."""
        self._check_source()
        if self.threshold is not None and self.scores != "sigmoid":
            raise ValueError("threshold is for scores: sigmoid, where each class is answered or not for itself")
        if not self.archives:
            usual = [Variant(runtime=name, precision=precision) for name, precision in _USUAL if name in self.runtimes]
            msgspec.structs.force_setattr(self, "archives", usual)
        for variant in self.archives:
            if variant.runtime not in self.runtimes:
                raise ValueError(
                    f"archives: this program is served in {', '.join(self.runtimes)}, not {variant.runtime}"
                )
        self._check_batches()
        kinds = {(variant.runtime, variant.precision) for variant in self.archives}
        versions = {tuple(map(int, variant.version.split("."))) for variant in self.archives}  # 1.0 is 1.00
        if min(len(kinds), len(versions)) < len(self.archives):
            raise ValueError("archives must differ in runtime or precision, and each needs a version of its own")

    def _check_batches(self) -> None:
        """Refuse batches that no worker has the memory for: it computes a whole one before it answers anybody."""
        height, width = self.input.size
        largest = max(self.serving.batch_size, *(variant.serving.batch_size or 1 for variant in self.archives))
        most = _MAX_BATCH_BYTES // (height * width * self.input.depth * _BYTES_OF_A_FLOAT)
        if largest > most:
            raise ValueError(
                f"serving.batch_size: {largest} pictures of {height} x {width} are more than 4 GiB of the model's "
                f"input; at most {most}"
            )

    def _check_source(self) -> None:
        """Refuse a recipe that does not say exactly one way to its model."""
        if (self.architecture is None) == (self.program is None):
            raise ValueError("a recipe has either architecture and weights, or program")
        if self.program is not None:
            _check("program", self.program, read_program)
            if self.weights is not None or self.arguments:
                raise ValueError("weights and arguments are for an architecture; a program has its own")
            return
        if self.weights is None:
            raise ValueError("weights are missing: the architecture needs them")
        _check("weights", self.weights, read_place)
        if self.input.layout != "nchw" or self.input.batch is not None:
            raise ValueError("input.layout and input.batch are for a program; an architecture takes nchw, any batch")

    @property
    def library(self) -> Library | None:
        """The library that the architecture comes from; None for a module of one's own, or a program."""
        scheme = (self.architecture or "").partition(":")[0]
        return next((name for name in _LIBRARIES if name == scheme), None)

    @property
    def runtimes(self) -> tuple[RuntimeName, ...]:
        """The runtimes that this model can be served in."""
        return tuple(PRECISIONS) if self.program is None else PROGRAM_RUNTIMES[read_program(self.program)[0]]

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


def _check(field: str, text: str, reading: Callable[[str], object]) -> None:
    """Read the text of a field, and name the field where the text cannot be read."""
    try:
        reading(text)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        UnusableError: the file is no recipe; the message has a line for each mistake, `<file>:<line>: <field>: …`.
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    try:
        return decode(content, Recipe)
    except DECODE_ERRORS as error:
        from classifier.mistakes import mistakes  # which a worker, whose recipe was read before, has no use for

        raise UnusableError("\n".join(f"{path}:{mistake}" for mistake in mistakes(content, Recipe))) from error
