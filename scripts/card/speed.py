"""How fast archives are on this machine, each measured in turns with the archive that the page is about.

The speed of a shared machine changes from minute to minute. Two archives that take turns meet the same changes, so that
the median of the ratios of each round compares them; the figures of archives that were measured apart would not.
"""

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import numpy as np
import psutil
from classifier.cpu import cpu_flags, usable_cores
from classifier.pipeline import Classifier, Pixels, load_pixels
from classifier.problems import Problem

_ROUNDS: Final = 5
_TURN_S: Final = 0.12  # at least one call, however long that takes
_CPUINFO: Final = Path("/proc/cpuinfo")
_TELLING: Final = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "bf16")  # what runtimes use


class Turn(msgspec.Struct, frozen=True):
    """One measurement of one archive."""

    lone_ms: float  # one picture, from its bytes to its answer
    rate: float  # pictures a second of the forward pass alone, in batches of the recipe's size


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Medians of one archive's turns, with the least and the most."""

    lone_ms: float
    lone_range_ms: tuple[float, float]
    rate: float
    rate_range: tuple[float, float]


class Ratio(msgspec.Struct, frozen=True):
    """How many times as fast another archive is as the page's own; medians of the rounds' ratios."""

    lone: float
    rate: float


class Machine(msgspec.Struct, frozen=True):
    """The machine of the measurement, without its name."""

    processor: str
    cores: int
    memory_gib: float
    instructions: list[str]


def this_machine() -> Machine:
    """The machine that this runs on: what of it this process may use."""
    lines = (line.partition(":") for line in _CPUINFO.read_text().splitlines())
    names = [value.strip() for name, _, value in lines if name.strip() == "model name"]
    return Machine(
        processor=names[0] if names else platform.machine(),
        cores=usable_cores(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        instructions=[flag for flag in _TELLING if flag in cpu_flags()],
    )


class Clock(msgspec.Struct, frozen=True):
    """How long all processors, and this process, have worked until a moment; seconds."""

    moment: float
    all: float
    own: float

    @classmethod
    def read(cls) -> "Clock":
        """Until now."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        own = time.process_time()
        return cls(time.perf_counter(), sum(times[:8]) - idle, own)  # the fields after eight count guests twice

    def others_since(self, earlier: "Clock") -> float:
        """The share of all processors' time, 0…1, that other programs took since an earlier moment."""
        there = (self.moment - earlier.moment) * (psutil.cpu_count() or 1)
        taken = (self.all - earlier.all) - (self.own - earlier.own)
        return min(1.0, max(0.0, taken / there))


def take_turns(models: Sequence[Classifier], picture: bytes) -> list[list[Turn]]:
    """Measure models one after the other in several rounds, on a picture's file; returns the turns of each.

    Raises:
        ValueError: a model cannot read the picture.
    """
    batches = [_batch(model, picture) for model in models]
    for model, batch in zip(models, batches, strict=True):
        model.logits(batch)
    turns: list[list[Turn]] = [[] for _ in models]
    for _ in range(_ROUNDS):
        for model, batch, own in zip(models, batches, turns, strict=True):
            own.append(_turn(model, picture, batch))
    return turns


def _turn(model: Classifier, picture: bytes, batch: Pixels) -> Turn:
    def lone() -> object:
        return model.classify([picture], [1])

    lone()  # not counted: threads of the model before may still wait actively
    return Turn(_seconds(lone) * 1e3, len(batch) / _seconds(lambda: model.logits(batch)))


def _batch(model: Classifier, picture: bytes) -> Pixels:
    """A picture as the model sees it, as often as its batch is large: uint8 [N,H,W,3]."""
    pixels = load_pixels(picture, model.recipe.input)
    if isinstance(pixels, Problem):
        raise ValueError(f"speed cannot be measured on that picture: {pixels.detail}")
    return np.repeat(pixels[None], model.recipe.serving.batch_size, axis=0)


def _seconds(compute: Callable[[], object]) -> float:
    """The median time of a call."""
    took: list[float] = []
    while sum(took) < _TURN_S:
        begin = time.perf_counter()
        compute()
        took.append(time.perf_counter() - begin)
    return median(took)


def speed(turns: Sequence[Turn]) -> Speed:
    """Summarise an archive's turns."""
    lone, rate = [turn.lone_ms for turn in turns], [turn.rate for turn in turns]
    return Speed(
        lone_ms=median(lone), lone_range_ms=(min(lone), max(lone)), rate=median(rate), rate_range=(min(rate), max(rate))
    )


def ratio(own: Sequence[Turn], other: Sequence[Turn]) -> Ratio:
    """How many times as fast the other archive is, from the turns of the same rounds."""
    rounds = list(zip(own, other, strict=True))
    return Ratio(
        lone=median(mine.lone_ms / theirs.lone_ms for mine, theirs in rounds),
        rate=median(theirs.rate / mine.rate for mine, theirs in rounds),
    )
