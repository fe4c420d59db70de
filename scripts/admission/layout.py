"""Checks that an archive has exactly the layout that `make archive` writes, so that every reader finds the same files.

TorchServe unpacks with Java's reader, which trusts the header in front of each file; Python's reader trusts the
directory at the end. If both must agree, and nothing else may be there, neither can be given a file that the other does
not see.
"""

import gzip
import io
import re
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Final

from classifier.bounded import Unpacked
from classifier.digests import reading

from scripts.archives.format import TAR_FORMAT, tar_entry, zip_entry

# Names that lead out of the folder or hide a file do not match; those that match mean the same file everywhere.
_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_NAME: Final = re.compile(rf"{_PART}(/{_PART})*")
_BYTE_CODE: Final = "__pycache__"

# Sizes in bytes, from PKWARE's APPNOTE 6.3: sections 4.3.12, 4.3.16, and 4.3.14 with 4.3.15.
_DIRECTORY_ENTRY: Final = 46
_END_RECORD: Final = 22
_ZIP64_END_RECORDS: Final = 56 + 20
_ZIP64_MARGIN: Final = 1.05  # zipfile takes ZIP64 for a file that might outgrow its limit


def check_layout(archive: Path) -> None:
    """Refuse an archive (`.mar`, `.tar.gz` or directory) of another layout than `make archive` writes.

    The content of its files is not checked.

    Raises:
        BrokenArchiveError: a name points out of the archive, occurs twice or has a special meaning to a system; or the
            archive holds a link or anything else but plain files, more data than its files, or a file that only some
            readers see.
    """
    with reading(archive):
        if archive.is_dir():
            _check_folder(archive)
        elif archive.name.endswith(".tar.gz"):
            _check_tar(archive)
        else:
            _check_zip(archive)


class _Names:
    """The names of an archive that were read so far."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def add(self, name: str) -> None:
        """Add a name.

        Raises:
            ValueError: it is not a valid name for a file of an archive, or occurs twice.
        """
        if _NAME.fullmatch(name) is None:
            raise ValueError(
                f"{name!r} is not a valid name for a file: use letters, digits, `_`, `-`, `.`, and `/` between folders"
            )
        if _BYTE_CODE in name.split("/"):
            raise ValueError(f"{name} is byte code, which no archive may have")
        if name.lower() in self._seen:  # some file systems ignore case
            raise ValueError(f"{name} is in it twice")
        self._seen.add(name.lower())


def _check_zip(archive: Path) -> None:
    """Check from the first byte to the directory at the end, which must begin where the last file ends."""
    names, position, directory = _Names(), 0, 0
    with archive.open("rb") as file, zipfile.ZipFile(file) as packed:
        for info in packed.infolist():
            names.add(info.filename)
            written = _as_written(info)
            if _fields(info) != _fields(written) or _has_needless_extra(info):
                raise ValueError(f"{info.filename} is not a plain, uncompressed file, as `make archive` writes them")
            header = written.FileHeader(zip64=info.file_size * _ZIP64_MARGIN > zipfile.ZIP64_LIMIT)
            file.seek(position)
            if info.header_offset != position or file.read(len(header)) != header:
                raise ValueError(f"the header of {info.filename} differs from its entry in the archive's directory")
            position += len(header) + info.file_size
            directory += _DIRECTORY_ENTRY + len(info.filename) + len(info.extra)
    end = _END_RECORD + (_ZIP64_END_RECORDS if position > zipfile.ZIP64_LIMIT else 0)
    if archive.stat().st_size != position + directory + end:
        raise ValueError("it has more data than its files")


def _as_written(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """The entry that `make archive` writes for a file of that name, size and checksum."""
    entry = zip_entry(info.filename, info.file_size)
    entry.compress_size, entry.CRC = info.file_size, info.CRC
    return entry


def _fields(info: zipfile.ZipInfo) -> tuple[object, ...]:
    """The fields of a file's entry in the directory, without its place, its checksum and what ZIP64 adds."""
    kind = (info.create_system, info.external_attr, info.internal_attr, info.flag_bits, info.compress_type)
    return (*kind, info.file_size, info.compress_size, info.date_time, info.volume, info.comment, info.reserved)


def _has_needless_extra(info: zipfile.ZipInfo) -> bool:
    return bool(info.extra) and max(info.file_size, info.header_offset) <= zipfile.ZIP64_LIMIT


class _Same(io.RawIOBase):
    """A file object that compares what is written to it with an existing file.

    gzip's own frame is not compared; digests and signature cover it.
    """

    def __init__(self, there: gzip.GzipFile) -> None:
        self._there = there
        self._written = 0

    def write(self, data: Any) -> int:
        """Compare.

        Raises:
            ValueError: the existing file has other bytes.
        """
        expected = bytes(data)
        if self._there.read(len(expected)) != expected:
            raise ValueError("it does not consist of plain files as `make archive` writes them")
        self._written += len(expected)
        return len(expected)

    def tell(self) -> int:
        """How many bytes were written."""
        return self._written


def _check_tar(archive: Path) -> None:
    """Write the archive again, and compare; nothing of it is kept."""
    names, folder = _Names(), None
    with gzip.open(archive) as there, Unpacked(archive) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as tar:
        again = tarfile.TarFile(fileobj=_Same(there), mode="w", format=TAR_FORMAT)
        for entry in tar:
            top, _, name = entry.name.partition("/")
            names.add(name)
            folder = folder or top
            if _NAME.fullmatch(top) is None or top != folder:
                raise ValueError(f"{entry.name!r} is not in the folder of the others")
            if not entry.isreg():
                raise ValueError(f"{name} is a link, or not a file at all")
            again.addfile(tar_entry(entry.name, entry.size), tar.extractfile(entry))
        again.close()
        if there.read(1):
            raise ValueError("it has more data than its files")


def _check_folder(folder: Path) -> None:
    """Check a folder. Byte code that Python wrote there does not count, as for the digests."""
    names = _Names()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if _BYTE_CODE in name.split("/"):
            continue
        names.add(name)
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ValueError(f"{name} is a link, or not a file at all")
