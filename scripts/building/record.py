"""The record beside an archive, `.<archive>.inputs`: what it was built from, by content. Dates do not count.

It is written before the archive takes its place, as `.<archive>.inputs.next`, and gets its own name afterwards: a build
that is killed in between leaves an archive that is known for what it is.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from scripts.archives.store import content_of
from scripts.console import UserError

# The inputs that decide answers, and so make a version what it is.
DECISIVE: Final = ("weights", "architecture", "labels", "recipe", "export")


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an archive was built from."""

    archive: str  # digest of the archive itself, which tells it from a damaged one
    content: str  # digest of its `digests.json`, which tells it from another one of the same name
    weights: str  # the WEIGHTS that it was built with
    settings: str  # digest of all that was asked for and of the files that were named: see `make`
    inputs: dict[str, str]  # digest of each input, by its name; those of DECISIVE, then `serving`, `gate`, `code`

    def differences(self, inputs: dict[str, str]) -> list[str]:
        """The names of the inputs that are others now, or are there no more."""
        return [name for name in self.inputs | inputs if self.inputs.get(name) != inputs.get(name)]


def record_of(archive: Path) -> Path:
    """The path of an archive's record."""
    return archive.with_name(f".{archive.name}.inputs")


def _next_record_of(archive: Path) -> Path:
    return archive.with_name(f".{archive.name}.inputs.next")


def read_record(archive: Path) -> Record | None:
    """The record of an archive; None if there is none that can be read."""
    pending = _read(_next_record_of(archive))
    if pending is not None and archive.exists():
        with contextlib.suppress(UserError):  # a broken one is not the one that was about to take its place
            if content_of(archive) == pending.content:
                return pending
    return _read(record_of(archive))


def _read(path: Path) -> Record | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def own_record(archive: Path) -> Record | None:
    """The record of an archive, damaged or whole or gone; None if the file that is there is another one, or unknown."""
    record = read_record(archive)
    if record is None or not archive.exists():
        return record
    try:
        return record if content_of(archive) == record.content else None
    except UserError:  # broken: what it was is on record
        return record


def write_next_record(built: Path, archive: Path, *, weights: str, settings: str, inputs: dict[str, str]) -> None:
    """Record what a built archive was made from, before it takes its place.

    Args:
        built: the archive where it was built, under its own name.
        archive: its place.
        weights: the WEIGHTS that were asked for.
        settings: see `Record`.
        inputs: see `Record`.

    Raises:
        OSError: the record cannot be written.
    """
    record = Record(
        archive=content_digest(built), content=content_of(built), weights=weights, settings=settings, inputs=inputs
    )
    part = record_of(archive).with_suffix(f".{os.getpid()}.part")
    try:
        part.write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
        part.replace(_next_record_of(archive))
    finally:
        part.unlink(missing_ok=True)


def settle_record(archive: Path) -> None:
    """Give the record of an archive that took its place its own name.

    Raises:
        OSError: that cannot be done.
    """
    _next_record_of(archive).replace(record_of(archive))


def digest(settings: bytes, inputs: Iterable[Path] = ()) -> str:
    """SHA-256 of settings and of the names and contents of files: the same as before means that nothing has changed."""
    found = hashlib.sha256(settings)
    for path in inputs:
        with path.open("rb") as stream:
            found.update(f"{path.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()


def pictures(*folders: Path | None) -> Iterator[Path]:
    """The files of those folders that were named and are there."""
    for folder in folders:
        if folder is not None and folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.is_file())


def content_digest(archive: Path) -> str:
    """SHA-256 of an archive's bytes: it tells an archive from another one of the same name, and from a damaged one."""
    return digest(
        b"", [archive] if archive.is_file() else sorted(path for path in archive.rglob("*") if path.is_file())
    )
