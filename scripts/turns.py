"""Turns that processes of one machine take: one at a time does what two at once would spoil."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import lock_descriptor

from scripts.console import step


@contextlib.contextmanager
def turn(path: Path, others: str) -> Iterator[None]:
    """Wait for one's turn, saying so if it does not come at once, and keep it; it ends with the process at the latest.

    Args:
        path: a folder that is there, so that no file for this stays behind, or a file, which is made.
        others: who may be waited for, in words.

    Raises:
        OSError: the file cannot be made or opened.
    """
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not lock_descriptor(descriptor, blocking=False):
            step(f"waiting for {others}")
            lock_descriptor(descriptor)
        yield
    finally:
        os.close(descriptor)  # which ends the turn
