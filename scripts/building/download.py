"""Fetches files of models and checks their digests."""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import requests
from classifier.digests import digest
from classifier.places import DIGEST_IN_NAME
from filelock import FileLock

from scripts.console import UserError, download_progress

_CHUNK_BYTES: Final = 1 << 20
_TIMEOUTS_S: Final = (5, 30)  # to connect, between two chunks


class DownloadError(Exception):
    """The weights could not be fetched. The next attempt continues after the part that has arrived."""


def download(url: str, cache: Path, sha256: str | None = None) -> Path:
    """Fetch a file into the cache, unless it is there; continues where an earlier attempt stopped.

    Args:
        url: its address.
        cache: folder to keep it in.
        sha256: its digest; without it, the file's name must end in -<first digits of its SHA-256>.<suffix>.

    Raises:
        DownloadError: the server cannot be reached, refuses, or closes the connection early.
        UserError: the file does not have its digest, and is not kept; or it cannot be written.
    """
    name = Path(urlsplit(url).path).name
    if sha256 is None and DIGEST_IN_NAME.search(name) is None:
        raise UserError(f"{url}: the file name must end in -<first digits of its SHA-256>.pth, for the check")
    path = cache / (name if sha256 is None else f"{sha256[:16]}-{name}")
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        if not path.exists():
            part = path.with_name(path.name + ".part")
            try:
                _fetch(url, part)
            except requests.RequestException as error:
                raise DownloadError(f"{url} cannot be downloaded: {_reason(error)}") from error
            except OSError as error:  # for example a full disk, for which other weights are no remedy
                raise UserError(f"{part} cannot be written: {error.strerror}") from error
            try:
                checked_digest(part, name, sha256)
            except UserError:
                part.unlink()
                raise
            part.replace(path)
    return path


def _fetch(url: str, part: Path) -> None:
    """Fetch into `part`, from its present end if the server supports that."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUTS_S) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # the part is complete, or of another file; the digest tells which
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with part.open("r+b" if start else "wb") as file, download_progress(url, total) as report:
            file.seek(start)
            for chunk in response.iter_content(_CHUNK_BYTES):
                file.write(chunk)
                report(file.tell())


def checked_digest(path: Path, name: str, sha256: str | None = None) -> str:
    """The SHA-256 of a file, which must be `sha256`; without it, begin with the digits in `name`, if there are any.

    Raises:
        UserError: it is another one.
    """
    actual = file_digest(path)
    in_name = DIGEST_IN_NAME.search(name)
    expected, where = (sha256, "the recipe") if sha256 else (in_name[1] if in_name else "", "its name")
    if not actual.startswith(expected):
        shown = expected[:16]
        raise UserError(
            f"{name} is damaged or was tampered with: by {where} its SHA-256 begins with {shown}, "
            f"but it begins with {actual[: len(shown)]}; delete {path} if it still exists, and try again"
        )
    return actual


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return digest(stream)


def _reason(error: Exception) -> str:
    """The innermost cause, which has the reason: requests wraps it in several exceptions."""
    inner: BaseException = error
    while inner.__context__ is not None:
        inner = inner.__context__
    return str(inner) or type(inner).__name__
