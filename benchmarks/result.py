"""The result of a run of the benchmark, as it is written to JSON."""

import platform
import statistics
from datetime import date
from pathlib import Path
from typing import Final, Literal

import msgspec
import psutil

from benchmarks.load import Load

Side = Literal["stock", "served", "raw", "pipe"]

CLIENTS: Final = 16  # clients that send at the same time
LIGHT_CLIENTS: Final = 32  # the same for a light model, which fewer clients do not keep busy


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement of each side, one after the other within a minute."""

    stock: Load | None  # None: TorchServe's own handler cannot serve the model
    served: Load
    raw: Load
    pipe: Load


class Lone(msgspec.Struct, frozen=True, kw_only=True):
    """One client, one picture at a time: over HTTP, and without a server."""

    served: Load
    pipe: Load


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """An open loop: pictures at a given rate."""

    rate: float
    load: Load


class Variant(msgspec.Struct, kw_only=True):
    """One archive: throughput, latency and costs."""

    model: str
    runtime: str
    precision: str
    clients: int
    rounds: list[Round] = []
    lone: list[Lone] = []
    mixed: list[Lone] = []  # the mixed request set in a closed loop: over HTTP, and without a server
    open_loop: list[Open] = []
    cpu_ms: float = 0.0  # of all processors for one picture, front end included
    further_worker_mb: float | None = None  # proportional set size

    @property
    def name(self) -> str:
        """Runtime, and precision unless that is float32."""
        return short_name(self.runtime, self.precision)

    def rate(self, side: Side) -> float:
        """The median rate of a side of the rounds, pictures a second."""
        return statistics.median(load.rate for load in self._loads(side))

    def ratio(self, side: Side) -> float:
        """Served over another side: the median of the rounds' ratios."""
        served = self._loads("served")
        return statistics.median(own.rate / load.rate for own, load in zip(served, self._loads(side), strict=True))

    @property
    def has_stock(self) -> bool:
        """Whether TorchServe's own handler was measured beside it."""
        return all(item.stock is not None for item in self.rounds)

    def _loads(self, side: Side) -> list[Load]:
        return [getattr(item, side) for item in self.rounds]

    def lone_ratio(self) -> float:
        """Latency of a lone request over that of the pipeline alone, medians."""
        return statistics.median(item.served.p50_ms / item.pipe.p50_ms for item in self.lone)

    def tail_ratio(self) -> float:
        """The ratio p99/p50 of a lone client, over the same ratio of the pipeline alone."""
        return statistics.median(
            (item.served.p99_ms / item.served.p50_ms) / (item.pipe.p99_ms / item.pipe.p50_ms) for item in self.lone
        )


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from the command to the first 200, of this project's server and of stock, one after the other."""

    ours: float
    stock: float | None


class Decode(msgspec.Struct, frozen=True, kw_only=True):
    """A 12-megapixel JPEG to the model's input: milliseconds, and whether the answer is the same; and a small one."""

    ours_ms: float
    reference_ms: float  # Pillow's decode, torchvision's transform
    same_top5: int
    pictures: int
    small_cpu_ms: float | None = None  # of a JPEG of 500 x 375 to pixels; results of older runs lack it
    small_reference_cpu_ms: float | None = None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine of a run."""

    processor: str
    cores: int
    memory_gb: float
    flags: list[str]


class Result(msgspec.Struct, kw_only=True):
    """One run."""

    day: str
    quick: bool
    machine: Machine
    variants: list[Variant] = []
    starts: dict[str, list[Start]] = {}
    stock_further_worker_mb: dict[str, float] = {}
    decode: list[Decode] = []
    agreement: dict[str, dict[str, float]] = {}  # model, archive: share of 200 views with the float32 eager top-1
    without_stock: dict[str, str] = {}  # model: why TorchServe's own handler cannot serve it


def short_name(runtime: str, precision: str) -> str:
    """The name of an archive among those of its model."""
    return runtime if precision == "float32" else f"{runtime} {precision}"


def this_machine() -> Machine:
    """The machine that this runs on, without its name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return Machine(
        processor=facts.get("model name", platform.machine()),
        cores=len(psutil.Process().cpu_affinity()),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        flags=sorted(flags & {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "bf16"}),
    )


def new_result(quick: bool) -> Result:
    """A result with nothing in it yet."""
    return Result(day=date.today().isoformat(), quick=quick, machine=this_machine())  # the user's day
