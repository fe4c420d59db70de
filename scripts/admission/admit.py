"""The gate between an archive and TorchServe, which never reads an archive that does not pass.

The code here is not part of the archive, unlike the check at load, which the author of a forged archive can replace.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Literal

from classifier.digests import verify
from classifier.errors import BrokenArchiveError

from scripts.admission.layout import check_layout
from scripts.admission.manifest import check_manifest
from scripts.archives.store import Archive, find_in_store, read_archive_identity, refusal
from scripts.console import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.admission.signing import PublicKeys


def admit(name: str, store: Path, keys: PublicKeys | None, purpose: Literal["registered", "served"]) -> Archive:
    """Find an archive of the store, and check its signature, layout and manifest, in this order.

    The signature comes first, so that no reader of archives gets an unsigned file, if there are keys to check it with.

    Args:
        name: a name or path as for `find_archive`; a path must lead into the store.
        store: the server's own folder of archives, because the server is told only a file's name.
        keys: the keys to trust; None if archives need no signature.
        purpose: whether the archive is to be registered or served. The digests of an archive to be registered are
            checked here; those of one to be served are checked by its worker.

    Raises:
        UserError: the archive is refused; the message says why, and what to do.
    """
    path = find_in_store(name, store)
    if keys is not None:
        from scripts.admission.signing import check_signature  # imports cryptography

        if path.is_dir():
            _drop_byte_code(path)
        check_signature(path, keys)
    try:
        check_layout(path)
        check_manifest(path)
        if purpose == "registered":
            verify(path)
    except BrokenArchiveError as error:
        raise refusal(path, error, f"it is not {purpose}") from error
    return Archive(path, read_archive_identity(path))


def _drop_byte_code(folder: Path) -> None:
    """Remove byte code: Python would run it instead of the signed source, although it may come from other source."""
    for cache in sorted(folder.rglob("__pycache__")):
        try:
            shutil.rmtree(cache)
        except OSError as error:  # also if it is a link
            raise UserError(f"{cache}: unsigned byte code, which cannot be removed: {error}") from error
