"""Unpacks an archive's files into a folder, as a worker sees them."""

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

from classifier.digests import members, reading, verify
from classifier.errors import BrokenArchiveError


def unpacked(archive: Path) -> tuple[Path, Callable[[], None]]:
    """Verify an archive that is one file and unpack it into a new temporary folder.

    Returns:
        The folder, and a function that removes it. In a fork of this process, which still uses it, that does nothing.

    Raises:
        BrokenArchiveError: as `unpack`. OSError: there is no such file. Nothing is left then.
    """
    with archive.open("rb"):
        pass  # a missing file raises OSError here, not a reader's own exception later
    folder = Path(tempfile.mkdtemp(prefix="archive-"))
    remove = partial(_remove, folder, os.getpid())
    try:
        unpack(archive, folder)
    except BaseException:
        remove()
        raise
    return folder, remove


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def unpack(archive: Path, folder: Path) -> None:
    """Verify an archive (`.mar`, `.tar.gz` or directory) and copy its files into `folder`.

    Raises:
        BrokenArchiveError: the archive differs from what was built, or a name in it points out of the folder.
    """
    verify(archive)
    with reading(archive):
        for inside, stream in members(archive):
            name = PurePosixPath(inside)
            if name.is_absolute() or ".." in name.parts:
                raise BrokenArchiveError(f"{archive.name}: {inside} points out of the archive")
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)
