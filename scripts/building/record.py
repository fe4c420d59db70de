"""The record beside an archive, `.<archive>.inputs`: what it was built from, by content. Dates do not count."""

import hashlib
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
        """The names of the inputs that are others now."""
        return [name for name, value in inputs.items() if self.inputs.get(name) != value]


def record_of(archive: Path) -> Path:
    """The path of an archive's record."""
    return archive.with_name(f".{archive.name}.inputs")


def read_record(archive: Path) -> Record | None:
    """The record of an archive; None if there is none that can be read."""
    try:
        return msgspec.json.decode(record_of(archive).read_bytes(), type=Record)
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


def write_record(archive: Path, *, weights: str, settings: str, inputs: dict[str, str]) -> None:
    """Record what an archive was built from.

    Raises:
        OSError: the record cannot be written.
    """
    record = Record(
        archive=content_digest(archive), content=content_of(archive), weights=weights, settings=settings, inputs=inputs
    )
    record_of(archive).write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")


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
