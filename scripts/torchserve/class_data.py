"""Java's classes, read and checked once and from then on mapped into each front end: class data sharing (JEP 310).

The archive of classes lies in this program's Python environment, beside the package that has TorchServe's code: whoever
may change the one may change the other. Java compares it with its own version and with TorchServe's file, and does
without it if they differ.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from scripts.console import UserError

_FOLDER: Final = Path("share/torchserve-classes")  # of the environment
_FOREIGN: Final = 0o022  # the bits of those who must not be able to write
_DEADLINE_S: Final = 60
_COLLECTOR: Final = "-XX:+UseG1GC"  # what the server uses can load the objects of an archive, but not write them


def archive_of(java_home: Path, jar: Path) -> Path:
    """Where the classes of this jar lie for this Java, whether or not they do. Another version has another path."""
    release = java_home.resolve() / "release"
    said = release.read_bytes() if release.exists() else b""
    key = hashlib.sha256(b"\0".join((os.fsencode(release), said, os.fsencode(jar), str(jar.stat().st_size).encode())))
    return Path(sys.prefix) / _FOLDER / f"{key.hexdigest()[:16]}.jsa"


def options(archive: Path) -> list[str]:
    """Java's options for these classes; none if they are not there, or if other users may have written them."""
    usable = _is_ours(archive.parent) and _is_ours(archive) and archive.stat().st_size
    return [f"-XX:SharedArchiveFile={archive}"] if usable else []


def _is_ours(path: Path) -> bool:
    try:
        status = path.stat(follow_symlinks=False)
    except OSError:
        return False
    return status.st_uid in (0, os.getuid()) and not status.st_mode & _FOREIGN


def write(java: Sequence[str], classes: Path, archive: Path, folder: Path) -> None:
    """Write the archive, in one step, so that a server that starts meanwhile sees all of it or nothing.

    Args:
        java: the program and its options, with the class path.
        classes: the list of the classes that a server loads.
        archive: the file to write.
        folder: the folder that the options are relative to.

    Raises:
        UserError: Java did not write it.
        OSError: the folder cannot be written to.
    """
    archive.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as beside:
        part = Path(beside) / archive.name
        said = subprocess.run(
            [*java, _COLLECTOR, "-Xshare:dump", f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={part}"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
        )
        if said.returncode or not part.exists():
            raise UserError(f"Java wrote no archive of classes: {(said.stdout + said.stderr).strip()[-500:]}")
        part.chmod(0o644)
        part.replace(archive)
