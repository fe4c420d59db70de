"""glibc's memory allocator, told to keep what it has."""

import ctypes
import sys
from typing import Final

# mallopt's parameters, from glibc's malloc.h
_TRIM_THRESHOLD: Final = -1
_TOP_PAD: Final = -2
_MMAP_MAX: Final = -4

_KEEP: Final = 1 << 30  # bytes: more than the activations of a batch
_PAD: Final = 64 << 20


def keep_memory() -> None:
    """Do not give freed memory back to the system between batches.

    Activations are allocated and freed with every batch. By default glibc takes large ones from the system each time,
    which pays for it in page faults, thousands for a picture. The process keeps the size of its largest batch instead.
    Does nothing without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return
    for parameter, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEEP), (_TOP_PAD, _PAD)):
        mallopt(parameter, value)
