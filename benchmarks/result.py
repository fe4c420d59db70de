"""The result of a run of the benchmark, as it is written to JSON."""

import platform
import shutil
import statistics
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Final, Literal

import msgspec
import psutil

from benchmarks.load import Load

Side = Literal["stock", "served", "raw", "pipe"]

FLOAT: Final = "float32"
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


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from the command to the first 200, of this project's server and of stock, one after the other."""

    ours: float
    stock: float | None


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory in MiB, as `running.memory_mb` measures it."""

    server_mb: float  # all processes of a server with one worker, front end included
    further_worker_mb: float


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
    starts: list[Start] = []
    cpu_ms: float = 0.0  # of all processors for one picture, front end included
    weights_mb: float = 0.0  # the archive, which is hardly more than its weights
    memory: Memory | None = None

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

    def start_ratio(self) -> float | None:
        """Time to the first answer over that of stock; None where there is no stock."""
        ratios = [item.ours / item.stock for item in self.starts if item.stock is not None]
        return statistics.median(ratios) if ratios else None

    def start_in_words(self) -> str:
        """The median times to the first answer: this archive's and, where it was measured, that of stock."""
        stock = [item.stock for item in self.starts if item.stock is not None]
        beside = f" (stock {statistics.median(stock):.1f} s)" if stock else ""
        return f"{statistics.median(item.ours for item in self.starts):.1f} s{beside}"


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One server's turn in a round of the comparison with other servers: started, loaded and stopped."""

    start_s: float  # from the command to the first 200
    load: Load
    cpu_ms: float  # of all its processes for one picture


class Contender(msgspec.Struct, kw_only=True):
    """A server of that comparison: an archive of this project, or another server with the float32 eager model."""

    name: str  # of the archive among those of its model, or of the other server
    ours: bool
    turns: list[Turn] = []  # one in each round, in the same order for all contenders
    memory_mb: float | None = None  # of all its processes, as `running.memory_mb`

    @property
    def rate(self) -> float:
        """The median rate, pictures a second."""
        return self.median(lambda turn: turn.load.rate)

    @property
    def precision(self) -> str:
        """The precision that its name says."""
        return precision_of(self.name)

    def median(self, of: Callable[[Turn], float]) -> float:
        """The median of a figure of its turns."""
        return statistics.median(map(of, self.turns))


class Decode(msgspec.Struct, frozen=True, kw_only=True):
    """JPEGs to the model's input: milliseconds, and whether the answer is the same."""

    small_cpu_ms: float  # 500 x 375: CPU time of all threads, until the pixels have the model's size
    small_reference_cpu_ms: float  # the same with Pillow's decode and torchvision's transform
    ours_ms: float  # 12 megapixels, until the tensor
    reference_ms: float  # the same with Pillow's decode and torchvision's transform
    same_top5: int
    pictures: int


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine of a run."""

    processor: str
    cores: int
    memory_gb: float
    flags: list[str]


class Result(msgspec.Struct, kw_only=True):
    """One run."""

    day: str
    commit: str  # of this project, with a `+` if its files have been changed since
    quick: bool
    machine: Machine
    variants: list[Variant] = []
    stock_memory: dict[str, Memory] = {}
    decode: list[Decode] = []
    agreement: dict[str, dict[str, float]] = {}  # model, archive: share of 200 views with the float32 eager top-1
    without_stock: dict[str, str] = {}  # model: why TorchServe's own handler cannot serve it
    contenders: dict[str, list[Contender]] = {}  # model: the servers that were compared
    without_peers: dict[str, str] = {}  # model: why the other servers cannot serve it

    @property
    def models(self) -> list[str]:
        """The models that were measured, in their order."""
        return list(dict.fromkeys(item.model for item in self.variants))

    def of(self, model: str) -> list[Variant]:
        """What was measured of a model's archives."""
        return [item for item in self.variants if item.model == model]


def short_name(runtime: str, precision: str) -> str:
    """The name of an archive among those of its model."""
    return runtime if precision == FLOAT else f"{runtime} {precision}"


def precision_of(name: str) -> str:
    """The precision that a name of `short_name` says."""
    return name.partition(" ")[2] or FLOAT


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


def this_commit() -> str:
    """The commit of the checkout that this program runs in; empty outside of a repository."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else ""


def new_result(quick: bool) -> Result:
    """A result with nothing in it yet."""
    day = date.today().isoformat()  # the user's
    return Result(day=day, commit=this_commit(), quick=quick, machine=this_machine())
