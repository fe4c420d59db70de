"""Divides a batch among threads, each of which computes its part alone.

Threads that compute a batch together wait for each other after every layer. Whenever another thread needs one of the
cores, of the server's front end or of a client on the same machine, all of them stand still. With parts of their own
they meet once for each batch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classifier.forks import Threads

# uint8 [N,H,W,3] -> float32 [N,…]: logits, or what a part of a graph gives.
Rows = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

# Bytes of weights that a worker may have twice, for runtimes whose number of threads belongs to what they have loaded:
# EfficientNet-Lite0's 19 MB buy a sixth more throughput, VGG16's 528 MB would buy a twentieth.
_TWICE: Final = 64 << 20


def in_memory_twice(*weights: Path) -> bool:
    """Whether these files are small enough to be loaded for a lone thread and for all threads."""
    return sum(path.stat().st_size for path in weights) <= _TWICE


def in_parts(threads: int, alone: Rows, together: Rows) -> Rows:
    """Compute as many pictures as all threads can have the same number of in parts, and those that are left together.

    A lone picture has all threads, and so has each batch of fewer pictures than threads.

    Args:
        threads: how many there are.
        alone: computes pictures with the thread that calls it; several threads call it at once.
        together: computes pictures with all threads.
    """
    if threads == 1:
        return together
    pool = Threads(threads, "forward")

    def compute(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        divided = len(pixels) - len(pixels) % threads
        if not divided:
            return together(pixels)
        rows = pool.map(alone, np.split(pixels[:divided], threads))
        if divided < len(pixels):
            rows.append(together(pixels[divided:]))
        return np.concatenate(rows)

    return compute
