"""Loads an archive of the store into this process, without a server."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classifier.cpu import usable_cores
from classifier.digests import verify
from classifier.errors import BrokenArchiveError, UnusableError
from classifier.pipeline import Classifier
from classifier.unpack import unpack

from scripts.console import UserError


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """Unpack an archive's files into a folder, as a worker sees them; the folder is removed at the end.

    Raises:
        UserError: the archive is damaged.
    """
    try:
        if archive.is_dir():
            verify(archive)
            yield archive
            return
        with tempfile.TemporaryDirectory(prefix="archive-") as name:
            unpack(archive, Path(name))
            yield Path(name)
    except BrokenArchiveError as error:
        raise UserError(f"{error}; build it again with `make archive`") from error


@contextmanager
def loaded(archive: Path) -> Iterator[Classifier]:
    """Load the classifier of an archive into this process, with a thread for each core.

    Raises:
        UserError: the archive is damaged, or cannot be used on this machine.
    """
    with unpacked(archive) as folder:
        try:
            classifier = Classifier.load(folder, threads=usable_cores())
        except UnusableError as error:
            raise UserError(f"{archive.name}: {error}") from error
        yield classifier
