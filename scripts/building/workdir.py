"""The folder that an archive is built in: it lies in the store, so that moving the finished archive is one step.

Several machines and containers may build into one store. A process's number means nothing to the others, so a folder
is named after the place that its process runs in, too.
"""

import contextlib
import hashlib
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

_PREFIX: Final = ".building-"
_NAME: Final = re.compile(rf"{re.escape(_PREFIX)}(?P<place>[0-9a-f]{{8}})-(?P<pid>[0-9]{{1,9}})-")
_PROCESSES: Final = Path("/proc/self/ns/pid")  # Linux: the namespace in which processes are numbered, a container's own
_ABANDONED_S: Final = 24 * 3600  # after which a build elsewhere is over, however slow


@contextlib.contextmanager
def workdir(store: Path) -> Iterator[Path]:
    """A folder in the store for one build. Removes those of builds that were killed."""
    store.mkdir(parents=True, exist_ok=True)
    for folder in store.glob(f"{_PREFIX}*"):
        if _is_left_over(folder):
            shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{_place()}-{os.getpid()}-", dir=store) as name:
        yield Path(name)


def _is_left_over(folder: Path) -> bool:
    """Whether the build that made a folder is over: its process has ended or, of a build elsewhere, a day has gone."""
    named = _NAME.match(folder.name)
    if named is None:
        return False
    if named["place"] == _place():
        return not psutil.pid_exists(int(named["pid"]))
    try:
        return time.time() - folder.stat().st_mtime > _ABANDONED_S
    except OSError:  # removed meanwhile
        return False


def _place() -> str:
    """What tells this machine or container from others: eight hexadecimal digits."""
    numbering = _PROCESSES.stat().st_ino if _PROCESSES.exists() else 0
    return hashlib.sha256(f"{socket.gethostname()} {numbering}".encode()).hexdigest()[:8]
