"""An archive's layout: what `make archive` writes, and no other, so that every reader finds the same files in it.

TorchServe unpacks with Java's reader, which believes the header in front of each file; Python's believes the directory
at the end. Where both must say the same, and nothing else may be there, neither is shown what the other does not see.
"""

import gzip
import io
import re
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Final

from classifier.digests import reading

from scripts.archives.format import TAR_FORMAT, tar_entry, zip_entry

# Neither out of the folder nor hidden, and the same file for every system and reader.
_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_NAME: Final = re.compile(rf"{_PART}(/{_PART})*")
_BYTE_CODE: Final = "__pycache__"

# Sizes in bytes, of PKWARE's APPNOTE 6.3: sections 4.3.12, 4.3.16, and 4.3.14 with 4.3.15.
_DIRECTORY_ENTRY: Final = 46
_END_RECORD: Final = 22
_ZIP64_END_RECORDS: Final = 56 + 20
_ZIP64_MARGIN: Final = 1.05  # zipfile takes ZIP64 for a file that might outgrow its limit

# Weights hardly compress, and those of which most were pruned to a tenth; what gzip can do is 1:1000.
_MAX_RATIO: Final = 100


def check_layout(archive: Path) -> None:
    """Refuse an archive (`.mar`, `.tar.gz` or directory) that no `make archive` wrote, without looking into its files.

    Raises:
        BrokenArchiveError: a name points out of it, is there twice or means something to a system; it holds a link or
            anything but plain files, more than it seems to, or what one reader sees and another does not.
    """
    with reading(archive):
        if archive.is_dir():
            _check_folder(archive)
        elif archive.name.endswith(".tar.gz"):
            _check_tar(archive)
        else:
            _check_zip(archive)


class _Names:
    """The names of an archive, as far as it was read."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def add(self, name: str) -> None:
        """Another name.

        Raises:
            ValueError: it is no name for a file of an archive, or there already.
        """
        if _NAME.fullmatch(name) is None:
            raise ValueError(
                f"{name!r} is no name for a file in it: letters, digits, `_`, `-`, `.`, `/` between folders"
            )
        if _BYTE_CODE in name.split("/"):
            raise ValueError(f"{name} is byte code, which belongs into no archive")
        if name.lower() in self._seen:  # one file, where the system does not tell them apart
            raise ValueError(f"{name} is in it twice")
        self._seen.add(name.lower())


def _check_zip(archive: Path) -> None:
    """Walk from the first byte to the directory at the end, which must be where the last file ends."""
    names, position, directory = _Names(), 0, 0
    with archive.open("rb") as file, zipfile.ZipFile(file) as packed:
        for info in packed.infolist():
            names.add(info.filename)
            written = _as_written(info)
            if _fields(info) != _fields(written) or _has_needless_extra(info):
                raise ValueError(f"{info.filename} is no plain file, stored as it is, as `make archive` writes them")
            header = written.FileHeader(zip64=info.file_size * _ZIP64_MARGIN > zipfile.ZIP64_LIMIT)
            file.seek(position)
            if info.header_offset != position or file.read(len(header)) != header:
                raise ValueError(f"what is in front of {info.filename} is not what the archive's directory says of it")
            position += len(header) + info.file_size
            directory += _DIRECTORY_ENTRY + len(info.filename) + len(info.extra)
    end = _END_RECORD + (_ZIP64_END_RECORDS if position > zipfile.ZIP64_LIMIT else 0)
    if archive.stat().st_size != position + directory + end:
        raise ValueError("there is more in it than its files")


def _as_written(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """The entry that `make archive` writes for a file of that name, size and checksum."""
    entry = zip_entry(info.filename, info.file_size)
    entry.compress_size, entry.CRC = info.file_size, info.CRC
    return entry


def _fields(info: zipfile.ZipInfo) -> tuple[object, ...]:
    """All that the directory says of a file, beside its place and checksum, and what ZIP64 adds."""
    kind = (info.create_system, info.external_attr, info.internal_attr, info.flag_bits, info.compress_type)
    return (*kind, info.file_size, info.compress_size, info.date_time, info.volume, info.comment, info.reserved)


def _has_needless_extra(info: zipfile.ZipInfo) -> bool:
    return bool(info.extra) and max(info.file_size, info.header_offset) <= zipfile.ZIP64_LIMIT


class _Same(io.RawIOBase):
    """A file to be written that must turn out as one that is there. gzip's frame is left to digests and signature."""

    def __init__(self, there: gzip.GzipFile) -> None:
        self._there = there
        self._written = 0

    def write(self, data: Any) -> int:
        """Compare.

        Raises:
            ValueError: there is something else.
        """
        expected = bytes(data)
        if self._there.read(len(expected)) != expected:
            raise ValueError("it is not of plain files alone, as `make archive` writes them")
        self._written += len(expected)
        return len(expected)

    def tell(self) -> int:
        """How much was written."""
        return self._written


class _Bounded(gzip.GzipFile):
    """What is unpacked of a file, as long as that is not out of all proportion to it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._limit = _MAX_RATIO * path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        """As of any file.

        Raises:
            ValueError: there would be too much.
        """
        if size is None or size < 0 or self.tell() + size > self._limit:
            raise ValueError(f"unpacked it would be over {_MAX_RATIO} times as large")
        return super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """To an offset from the start, as far as it may be read."""
        if offset > self._limit:
            raise ValueError(f"unpacked it would be over {_MAX_RATIO} times as large")
        return super().seek(offset, whence)


def _check_tar(archive: Path) -> None:
    """Write it again, and compare. Reading is all it takes: nothing is kept."""
    names, folder = _Names(), None
    with gzip.open(archive) as there, _Bounded(archive) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as tar:
        again = tarfile.TarFile(fileobj=_Same(there), mode="w", format=TAR_FORMAT)
        for entry in tar:
            top, _, name = entry.name.partition("/")
            names.add(name)
            folder = folder or top
            if _NAME.fullmatch(top) is None or top != folder:
                raise ValueError(f"{entry.name!r} is not in the folder of the others")
            if not entry.isreg():
                raise ValueError(f"{name} is a link, or no file at all")
            again.addfile(tar_entry(entry.name, entry.size), tar.extractfile(entry))
        again.close()
        if there.read(1):
            raise ValueError("there is more in it than its files")


def _check_folder(folder: Path) -> None:
    """Byte code that Python wrote there does not count, as it does not for the digests."""
    names = _Names()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if _BYTE_CODE in name.split("/"):
            continue
        names.add(name)
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ValueError(f"{name} is a link, or no file at all")
