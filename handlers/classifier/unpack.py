"""Unpacks an archive's files into a folder, as a worker sees them."""

import shutil
from pathlib import Path, PurePosixPath

from classifier.digests import members, reading, verify
from classifier.errors import BrokenArchiveError


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
