"""Settings of glibc's memory allocator: freed memory is kept from batch to batch, but not for ever."""

import ctypes
import functools
import sys
import threading
import time
from typing import Any, Final

# mallopt's parameters, from glibc's malloc.h
_TRIM_THRESHOLD: Final = -1
_TOP_PAD: Final = -2
_MMAP_MAX: Final = -4

_KEEP: Final = 1 << 30  # bytes: more than the activations of a batch
_PAD: Final = 64 << 20
_EVERY_S: Final = 30.0


def keep_memory(every_s: float = _EVERY_S) -> None:
    """Give freed memory back to the system twice a minute, instead of within each batch.

    Activations are allocated and freed in every batch. By default glibc gets large ones from the system each time, at
    the cost of page faults, thousands for a picture. If memory were never given back, the process would stay as large
    as it was at most, while loading or with the largest pictures in one batch: 250 MB more for EfficientNet-Lite0 in
    int8. Giving memory back takes 1 to 40 ms; the first time, after loading, about 100 ms. Without glibc the function
    does nothing.

    Args:
        every_s: the interval at which memory is given back, in seconds.
    """
    libc = _glibc()
    if libc is None:
        return
    for parameter, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEEP), (_TOP_PAD, _PAD)):
        libc.mallopt(parameter, value)
    threading.Thread(target=_give_back_for_ever, args=(every_s,), name="give-back", daemon=True).start()


def give_back() -> None:
    """Give freed memory back now, after work that took far more than a batch does. Without glibc, do nothing."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _give_back_for_ever(every_s: float) -> None:
    while True:
        time.sleep(every_s)
        give_back()


@functools.cache
def _glibc() -> Any:
    """The C library if it is glibc, else None."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    if getattr(libc, "mallopt", None) is None or getattr(libc, "malloc_trim", None) is None:  # musl
        return None
    libc.malloc_trim.argtypes = [ctypes.c_size_t]
    return libc
