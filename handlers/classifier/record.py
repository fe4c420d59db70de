"""What is known of a batch besides its answers: how long each stage took, and what its pictures and scores were like.

The pipeline fills a record in; metrics and traces are made from it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Stage = Literal["decode", "forward", "rank"]


class Span(msgspec.Struct, frozen=True):
    """One stage of a batch."""

    stage: Stage
    begin: float  # seconds, of `time.perf_counter`
    seconds: float


class Seen(msgspec.Struct, frozen=True):
    """A picture whose header was read; it may still be broken."""

    format: str  # Pillow's name
    pixels: int


class Record(msgspec.Struct):
    """A batch, while it is answered. Decoders in several threads may add to `seen` at once."""

    spans: list[Span] = []
    seen: list[Seen] = []
    scores: list[NDArray[np.float32]] = []  # [classes] of each picture that was classified

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Time a stage; it counts even if it fails."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.spans.append(Span(stage, begin, time.perf_counter() - begin))

    def see(self, format: str, pixels: int) -> None:  # noqa: A002 - the field's word
        """Add a picture whose header was read."""
        self.seen.append(Seen(format, pixels))
