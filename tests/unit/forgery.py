"""What a forger does: archives whose digests are right and that are still not what `make archive` writes."""

import gzip
import io
import json
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from classifier.digests import DIGESTS_FILE

from scripts.archives.format import TAR_FORMAT, tar_entry, zip_entry

Files = dict[str, bytes]
Forge = Callable[[Path, Files], None]  # writes the archive


def proven(files: Files) -> Files:
    """The files with digests of them: these prove damage only, anybody can compute them."""
    digests = {name: sha256(content).hexdigest() for name, content in files.items() if name != DIGESTS_FILE}
    return files | {DIGESTS_FILE: json.dumps(digests).encode()}


def expecting(files: Files, name: str, content: bytes) -> Files:
    """The files, whose digests know of one more, which the forger adds in a way of his own."""
    others = proven(files | {name: content})
    del others[name]
    return others


def write_zip(path: Path, files: Files, *more: tuple[zipfile.ZipInfo | str, bytes]) -> None:
    """A `.mar` with these files as `make archive` writes them, then others as they are given."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as packed:
        warnings.filterwarnings("ignore", "Duplicate name", UserWarning)
        for name, content in files.items():
            packed.writestr(zip_entry(name, len(content)), content)
        for entry, content in more:
            packed.writestr(zip_entry(entry, len(content)) if isinstance(entry, str) else entry, content)


def with_file(name: str, content: bytes = b"evil") -> Forge:
    """One more file, in the digests too."""
    return lambda path, files: write_zip(path, proven(files | {name: content}))


def with_entry(**fields: object) -> Forge:
    """One more file, whose entry says something else than others do."""

    def forge(path: Path, files: Files) -> None:
        entry = zip_entry("more.py", 4)
        for field, value in fields.items():
            setattr(entry, field, value)
        write_zip(path, expecting(files, "more.py", b"evil"), (entry, b"evil"))

    return forge


def patched(old: bytes, new: bytes, which: int, *, name: str = "more.py", content: bytes = b"evil") -> Forge:
    """One more file, and then one occurrence of some bytes is replaced in the finished archive."""

    def forge(path: Path, files: Files) -> None:
        write_zip(path, proven(files | {name: content}))
        parts = path.read_bytes().split(old)
        path.write_bytes(old.join(parts[: which + 1]) + new + old.join(parts[which + 1 :]))

    return forge


def around(before: bytes = b"", after: bytes = b"") -> Forge:
    """More bytes before the archive, or behind it."""

    def forge(path: Path, files: Files) -> None:
        write_zip(path, proven(files))
        path.write_bytes(before + path.read_bytes() + after)

    return forge


def commented(path: Path, files: Files) -> None:
    """With a comment, in which there is room for a second directory."""
    write_zip(path, proven(files))
    with zipfile.ZipFile(path, "a") as packed:
        packed.comment = b"PK" * 100


def streamed(path: Path, files: Files) -> None:
    """Sizes and checksums behind the files instead of in front, as for a pipe."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise OSError("a pipe")

        def tell(self) -> int:
            raise OSError("a pipe")

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as packed:
        for name, content in proven(files).items():
            packed.writestr(zip_entry(name, len(content)), content)
    path.write_bytes(pipe.getvalue())


def hidden(path: Path, files: Files) -> None:
    """A file that Java's reader sees and Python's does not: it is missing in the directory."""
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(zip_entry("numpy.py", 4), b"evil")
        for name, content in proven(files).items():
            packed.writestr(zip_entry(name, len(content)), content)
        del packed.infolist()[0]


def overlapping(path: Path, files: Files) -> None:
    """Two names for the same bytes: how a small file becomes petabytes."""
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in proven(files | {"more.py": b"evil", "many.py": b"evil"}).items():
            packed.writestr(zip_entry(name, len(content)), content)
        packed.getinfo("many.py").header_offset = packed.getinfo("more.py").header_offset


def tar(path: Path, files: Files, *more: tuple[tarfile.TarInfo, bytes], tail: bytes = b"") -> None:
    """A `.tar.gz` with these files as `make archive` writes them, then others as they are given."""
    with gzip.open(path, "wb") as zipped:
        with tarfile.open(fileobj=zipped, mode="w", format=TAR_FORMAT) as packed:
            for name, content in files.items():
                packed.addfile(tar_entry(f"tiny/{name}", len(content)), io.BytesIO(content))
            for entry, content in more:
                packed.addfile(entry, io.BytesIO(content))
        zipped.write(tail)


def with_tar_file(name: str, content: bytes = b"evil") -> Forge:
    """One more file of a `.tar.gz`, named as given, in the digests too."""
    inside = name.partition("/")[2]

    def forge(path: Path, files: Files) -> None:
        tar(path, expecting(files, inside, content), (tar_entry(name, len(content)), content))

    return forge


def with_tar_entry(**fields: object) -> Forge:
    """One more entry of a `.tar.gz`, which says something else than others do."""

    def forge(path: Path, files: Files) -> None:
        entry = tar_entry("tiny/more.py", 0)
        for field, value in fields.items():
            setattr(entry, field, value)
        tar(path, expecting(files, "more.py", b""), (entry, b""))

    return forge
