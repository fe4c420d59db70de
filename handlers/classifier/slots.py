"""Numbers for processes that write into one folder: no two living processes have the same one, and they stay small."""

import fcntl
from io import TextIOWrapper
from pathlib import Path


def reserve(folder: Path, name: str) -> tuple[int, TextIOWrapper]:
    """The first number that no living process has, and the file whose lock holds it as long as this process lives.

    Args:
        folder: where the processes write.
        name: of what they write; each name has numbers of its own.
    """
    number = 0
    while (lock := _locked(folder / f".{name}.{number}.lock")) is None:
        number += 1
    return number, lock


def _locked(path: Path) -> TextIOWrapper | None:
    """The file, locked; None if another process has locked it."""
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
