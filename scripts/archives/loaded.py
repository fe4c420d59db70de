"""Loads an archive of the store into this process, without a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classifier.cpu import usable_cores
from classifier.digests import verify
from classifier.errors import BrokenArchiveError, UnusableError
from classifier.identity import read_identity
from classifier.pipeline import Classifier
from classifier.unpack import unpacked as unpacked_for_now

from scripts.archives.runtimes import require_runtime
from scripts.archives.store import refusal
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
        folder, remove = unpacked_for_now(archive)
        try:
            yield folder
        finally:
            remove()
    except BrokenArchiveError as error:
        raise refusal(archive, error) from error


@contextmanager
def loaded(archive: Path) -> Iterator[Classifier]:
    """Load the classifier of an archive into this process, with a thread for each core.

    Raises:
        UserError: the archive is damaged, cannot be used on this machine, or its runtime's package is missing.
    """
    with unpacked(archive) as folder:
        try:
            require_runtime(read_identity(folder))
            classifier = Classifier.load(folder, threads=usable_cores())
        except UnusableError as error:
            raise UserError(f"{archive.name}: {error}") from error
        yield classifier
