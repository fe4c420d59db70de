"""Holds the workers of a server between two batches, so that whoever manages it can take some away without harm.

TorchServe does not say whether a worker has a batch, and ends a worker with the batch that it has. But it gives a
worker the question for its description by itself, never in a batch with others. A worker that is asked for it while its
server is held says that it has come to rest, and answers only when the hold ends. The hold is a lock on a file, which
the system releases if its owner dies.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

_FOLDER = "classifier-hold"  # in the temporary folder that a server shares with its workers
_LOCK = "lock"
_POLL_S: Final = 0.02


def wait_while_held(temporary: Path) -> None:
    """Say that this process has come to rest, and wait until the hold ends; return at once if there is none.

    Args:
        temporary: the temporary folder of the server.
    """
    folder = temporary / _FOLDER
    with suppress(FileNotFoundError):  # there is no hold, or it ends at this moment
        if folder.lstat().st_uid != os.getuid():  # only the server's own user may hold it
            return
        with (folder / _LOCK).open("rb") as lock:
            while not _taken(lock, fcntl.LOCK_SH):
                (folder / str(os.getpid())).touch()  # again and again: a new hold forgets who rested in one before it
                time.sleep(_POLL_S)


@contextmanager
def hold(temporary: Path) -> Iterator[None]:
    """Hold the workers of a server: each comes to rest when it is asked for its description.

    Args:
        temporary: the temporary folder of the server.

    Raises:
        BlockingIOError: somebody else holds them.
    """
    folder = temporary / _FOLDER
    folder.mkdir(0o700, exist_ok=True)
    with (folder / _LOCK).open("wb") as lock:
        if not _taken(lock, fcntl.LOCK_EX):
            raise BlockingIOError(f"{folder / _LOCK} is locked")
        for name in at_rest(temporary):  # of a hold whose owner died
            (folder / str(name)).unlink()
        try:
            yield
        finally:  # a worker may say at this moment that it rests; what it leaves holds nobody
            (folder / _LOCK).unlink()
            shutil.rmtree(folder, ignore_errors=True)


def _taken(lock: IO[bytes], kind: int) -> bool:
    """Take a lock if nobody has it."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def at_rest(temporary: Path) -> set[int]:
    """The process ids of the workers that have come to rest in the present hold."""
    return {int(path.name) for path in (temporary / _FOLDER).iterdir() if path.name.isdecimal()}
