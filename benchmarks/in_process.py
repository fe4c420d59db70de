"""Runs the classifier without a server, in a process of its own; servers are measured against it.

`python -m benchmarks.in_process <archive>` answers each line of JSON on standard input with one on standard output.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Literal, cast

import msgspec
import numpy as np
from classifier.allocator import keep_memory
from classifier.pipeline import Classifier
from classifier.service import checked_top_k

from benchmarks.load import Load
from scripts.archives.loaded import loaded
from scripts.building.golden import noise

Measure = Literal["raw", "pipe", "lone"]

_BATCHES: Final = (1, 2, 4, 8, 16)
_PROBE_S: Final = 0.5


class InProcess:
    """A child process with one archive loaded."""

    def __init__(self, archive: Path) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.in_process", str(archive)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._to: IO[str] = cast("IO[str]", self._child.stdin)
        self._from: IO[str] = cast("IO[str]", self._child.stdout)
        self._read()

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._to.close()
        self._child.wait()
        self._from.close()

    def measure(self, what: Measure, bodies: Sequence[Path], seconds: float) -> Load:
        """Measure `raw` (forward at its best batch size), `pipe` (full batches) or `lone` (one picture at a time)."""
        self._to.write(json.dumps([what, [str(path) for path in bodies], seconds]) + "\n")
        self._to.flush()
        return msgspec.convert(self._read(), Load)

    def _read(self) -> Any:
        line = self._from.readline()
        if not line:
            raise RuntimeError("the in-process classifier ended; its reason is above")
        return json.loads(line)


def main() -> None:
    """Load the archive that the command line names, then measure as each line of standard input says."""
    keep_memory()
    with loaded(Path(sys.argv[1])) as classifier:
        classifier.warm_up()
        best = _best_batch(classifier)
        _answer({"best_batch": best})
        for line in sys.stdin:
            what, names, seconds = json.loads(line)
            bodies = [Path(name).read_bytes() for name in names]
            _answer(msgspec.to_builtins(_measure(classifier, what, bodies, best, seconds)))


def _measure(classifier: Classifier, what: Measure, bodies: list[bytes], best: int, seconds: float) -> Load:
    if what == "raw":
        pixels = noise(classifier.recipe.input, best)
        return _repeat(lambda: classifier.forward(pixels), best, seconds)
    size = classifier.recipe.serving.batch_size if what == "pipe" else 1
    batches = [[bodies[(start + index) % len(bodies)] for index in range(size)] for start in range(len(bodies))]
    turn = iter(range(1 << 62))
    top = checked_top_k(None, len(classifier.labels))  # as a client gets without asking for a number
    return _repeat(lambda: classifier.classify(batches[next(turn) % len(batches)], [top] * size), size, seconds)


def _repeat(compute: Callable[[], object], pictures: int, seconds: float) -> Load:
    """Call a function again and again for some time; the latencies are those of a call."""
    compute()
    took = []
    start = time.perf_counter()
    while (begin := time.perf_counter()) - start < seconds:
        compute()
        took.append(time.perf_counter() - begin)
    total = time.perf_counter() - start
    p50, p90, p99 = np.percentile(np.array(took) * 1e3, (50, 90, 99)).tolist()
    return Load(seconds=total, answers=len(took) * pictures, failed=0, p50_ms=p50, p90_ms=p90, p99_ms=p99)


def _best_batch(classifier: Classifier) -> int:
    """The batch size with the most pictures a second in the bare forward pass."""
    rates = {}
    for size in _BATCHES:
        pixels = noise(classifier.recipe.input, size)
        rates[size] = _repeat(lambda pixels=pixels: classifier.forward(pixels), size, _PROBE_S).rate  # type: ignore[misc]
    return max(rates, key=lambda size: rates[size])


def _answer(content: object) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
