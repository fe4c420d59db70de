"""An archive's proof of its own content: a SHA-256 of every file in it."""

import hashlib
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import msgspec

from classifier.bounded import Unpacked
from classifier.errors import BrokenArchiveError, ForeignArchiveError
from classifier.identity import IDENTITY_FILE

DIGESTS_FILE: Final = "digests.json"


def digest(stream: IO[bytes]) -> str:
    """The SHA-256 of a stream, in hexadecimal."""
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type] # zipfile's streams fit as well


def write_digests(directory: Path) -> None:
    """Write the digest file of a directory that becomes an archive: `{"<path>": "<sha256>"}` of all other files."""
    digests = {name: digest(stream) for name, stream in members(directory)}
    (directory / DIGESTS_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(digests), indent=1))


def verify(archive: Path) -> None:
    """Check an archive (`.mar`, `.tar.gz` or directory) against its own digests.

    Every listed file must be there and unchanged, and no other file may be there.

    Raises:
        BrokenArchiveError: the archive differs; the message names the first file that does.
    """
    found: dict[str, str] = {}
    listed: dict[str, str] | None = None
    with reading(archive):
        for name, stream in members(archive):
            if name in found:
                raise BrokenArchiveError(f"{archive.name}: {name} is in it twice")
            content = stream.read() if name == DIGESTS_FILE else None
            found[name] = digest(stream)
            if content is not None:
                listed = msgspec.json.decode(content, type=dict[str, str])
        if listed is None:
            raise BrokenArchiveError(f"{archive.name}: no {DIGESTS_FILE} in it, so nothing proves its content")
    del found[DIGESTS_FILE]
    for name in sorted(found.keys() | listed.keys()):
        if name not in found:
            raise BrokenArchiveError(f"{archive.name}: {name} is missing")
        if name not in listed:
            raise BrokenArchiveError(f"{archive.name}: {name} is not one of the files it was built from")
        if found[name] != listed[name]:
            raise BrokenArchiveError(f"{archive.name}: {name} was changed after the archive was built")


@contextmanager
def reading(archive: Path) -> Iterator[None]:
    """Turn any exception while an archive is read into `BrokenArchiveError`: its readers raise nearly any.

    Of an archive of somebody else, `ForeignArchiveError` says so: nothing in it need be broken.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, ForeignArchiveError) and _is_foreign(archive):
            raise ForeignArchiveError(
                f"{archive} was not built by `make archive`: it has neither {IDENTITY_FILE} nor {DIGESTS_FILE}. "
                f"`make adopt FROM={archive}` makes a recipe of an archive of TorchServe's own image_classifier, from "
                "which `make archive` builds one that is served here; docs/adopt.md says what else can be adopted"
            ) from error
        if isinstance(error, BrokenArchiveError):
            raise
        raise BrokenArchiveError(f"{archive.name}: {error or type(error).__name__}") from error


def _is_foreign(archive: Path) -> bool:
    """Whether an archive can be read, and lacks what `make archive` writes into each. Only names are read."""
    try:
        names = set(_names(archive))
    except Exception:  # it cannot be read, whoever made it; the caller has an error that says why
        return False
    return bool(names) and not names & {DIGESTS_FILE, IDENTITY_FILE}


def _names(archive: Path) -> Iterator[str]:
    if archive.is_dir():
        yield from (path.relative_to(archive).as_posix() for path in archive.rglob("*") if path.is_file())
    elif archive.name.endswith(".tar.gz"):
        with Unpacked(archive) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as tar:
            for entry in tar:
                yield from (entry.name, entry.name.partition("/")[2])
    else:
        with zipfile.ZipFile(archive) as packed:
            yield from packed.namelist()


def members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of an archive, each open while it is the current one. Python's byte-code caches do not count.

    Raises:
        BrokenArchiveError: one of them is a link. Damage raises the readers' own exceptions: use with `reading`.
    """
    if archive.is_dir():
        yield from _members_of_folder(archive)
    elif archive.name.endswith(".tar.gz"):
        yield from _members_of_tar(archive)
    else:
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                if not info.is_dir():
                    with packed.open(info) as stream:
                        yield info.filename, stream


def _members_of_folder(folder: Path) -> Iterator[tuple[str, IO[bytes]]]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_symlink():
            raise BrokenArchiveError(f"{folder.name}: {inside} is a link")
        if path.is_file() and "__pycache__" not in inside.parts:
            with path.open("rb") as stream:
                yield inside.as_posix(), stream


def _members_of_tar(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive, "r:gz") as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is not None:  # the top folder is the model's name, as torch-model-archiver writes it
                yield entry.name.partition("/")[2], content
            elif not entry.isdir():
                raise BrokenArchiveError(f"{archive.name}: {entry.name} is a link")
