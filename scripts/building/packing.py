"""Packs files into an archive, the same bytes every time: torch-model-archiver builds it, this module normalises it."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from classifier.digests import members, write_digests

from scripts.archives.format import MANIFEST, SUFFIX, TAR_FORMAT, Format, manifest_text, tar_entry, zip_entry
from scripts.console import UserError

_CREATED_ON: Final = "01/01/1980 00:00:00"  # instead of the time of the build; the earliest that zip can hold


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into an archive."""

    model_name: str
    version: str
    handler: Path
    serialized_file: Path
    model_file: Path | None
    config_file: Path
    extra_folder: Path  # its content goes to the top level of the archive, with its folders


def pack(content: Content, archive_format: Format, target: Path, workdir: Path) -> None:
    """Build `target` with torch-model-archiver, then make it reproducible and add the digests of all its files.

    Raises:
        UserError: torch-model-archiver failed.
    """
    built = _run_archiver(content, archive_format, workdir)
    unpacked = workdir / "unpacked"
    for name, stream in members(built):
        path = unpacked / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file)
    _normalise_manifest(unpacked / MANIFEST)
    write_digests(unpacked)
    write_archive(unpacked, archive_format, target, content.model_name)


def write_archive(unpacked: Path, archive_format: Format, target: Path, model_name: str) -> None:
    """Write a folder's files as an archive, with the same bytes every time. The folder may be moved."""
    if archive_format == "zip-store":
        _write_zip(unpacked, target)
    elif archive_format == "tgz":
        _write_tgz(unpacked, target, model_name)
    else:
        shutil.move(unpacked, target)


def _run_archiver(content: Content, archive_format: Format, workdir: Path) -> Path:
    export, temporary = workdir / "archiver", workdir / "tmp"
    export.mkdir()
    temporary.mkdir()
    command = [
        *(sys.executable, "-m", "model_archiver.model_packaging"),
        *("--model-name", content.model_name, "--version", content.version),
        *("--handler", str(content.handler), "--serialized-file", str(content.serialized_file)),
        *("--config-file", str(content.config_file), "--extra-files", str(content.extra_folder)),
        *("--export-path", str(export), "--archive-format", archive_format),
        *(("--model-file", str(content.model_file)) if content.model_file else ()),
    ]
    # torch-model-archiver first deletes $TMPDIR/<model name>, so it gets a TMPDIR of its own
    result = subprocess.run(
        command, env=os.environ | {"TMPDIR": str(temporary)}, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise UserError(f"torch-model-archiver failed:\n{result.stdout}{result.stderr}")
    return export / f"{content.model_name}{SUFFIX[archive_format]}"


def _normalise_manifest(path: Path) -> None:
    manifest = json.loads(path.read_text())
    manifest["createdOn"] = _CREATED_ON
    path.write_text(manifest_text(manifest))


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def _write_zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed:
        for name, path in _files(folder):
            with path.open("rb") as source, packed.open(zip_entry(name, path.stat().st_size), "w") as entry:
                shutil.copyfileobj(source, entry, 1 << 20)


def _write_tgz(folder: Path, target: Path, top: str) -> None:
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as zipped,  # weights hardly compress
        tarfile.open(fileobj=zipped, mode="w", format=TAR_FORMAT) as tar,
    ):
        for name, path in _files(folder):
            with path.open("rb") as source:
                tar.addfile(tar_entry(f"{top}/{name}", path.stat().st_size), source)
