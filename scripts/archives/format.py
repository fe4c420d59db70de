"""The formats of an archive: their names, and how each entry and the manifest are written."""

import json
import tarfile
import zipfile
from pathlib import Path
from typing import Final, Literal

Format = Literal["zip-store", "tgz", "no-archive"]


SUFFIX: Final[dict[Format, str]] = {"zip-store": ".mar", "tgz": ".tar.gz", "no-archive": ""}


MANIFEST: Final = "MAR-INF/MANIFEST.json"


TAR_FORMAT: Final = tarfile.PAX_FORMAT


_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)


_FILE_MODE: Final = 0o644


def zip_entry(name: str, size: int) -> zipfile.ZipInfo:
    """The entry of a file in a `.mar`. The size, in bytes, tells zipfile in advance whether the entry needs ZIP64."""
    info = zipfile.ZipInfo(name, _ZIP_TIME)
    info.external_attr = _FILE_MODE << 16
    info.file_size = size
    return info


def tar_entry(name: str, size: int) -> tarfile.TarInfo:
    """The entry of a file in a `.tar.gz`; the size is in bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, _FILE_MODE
    return info


def format_of(archive: Path) -> Format:
    """The format of an archive, by its name."""
    return next(name for name, suffix in SUFFIX.items() if archive.name.endswith(suffix))


def manifest_text(manifest: object) -> str:
    """The text of a manifest, spelt the same way in every archive."""
    return json.dumps(manifest, indent=2) + "\n"
