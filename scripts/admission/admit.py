"""The gate between an archive and TorchServe: what does not pass is never shown to it.

The code here is not the archive's own, other than the check at load, which a forger would have written himself.
"""

import shutil
from pathlib import Path
from typing import Literal

from classifier.digests import verify
from classifier.errors import BrokenArchiveError

from scripts.admission.layout import check_layout
from scripts.admission.manifest import check_manifest
from scripts.admission.signing import PublicKeys, check_signature
from scripts.archives.store import Archive, find_in_store, read_archive_identity
from scripts.console import UserError


def admit(name: str, store: Path, keys: PublicKeys | None, purpose: Literal["registered", "served"]) -> Archive:
    """Find an archive of the store, and hold it to signature, layout and manifest.

    In this order: no reader of archives is given a file that nobody signed, if there are keys to check it with.

    Args:
        name: what people call it, as of `find_archive`; a path must lead into the store.
        store: the folder of archives, the server's own: it is told a file's name and no more.
        keys: to trust; None for no signatures at all.
        purpose: what becomes of it. One to be registered is held to its digests here, one to be served by its worker.

    Raises:
        UserError: it is refused; the message says why, and what to do.
    """
    path = find_in_store(name, store)
    if keys is not None:
        if path.is_dir():
            _drop_byte_code(path)
        check_signature(path, keys)
    try:
        check_layout(path)
        check_manifest(path)
        if purpose == "registered":
            verify(path)
    except BrokenArchiveError as error:
        raise UserError(
            f"{path} is broken ({error}); it is not {purpose}. Build it again with `make archive`"
        ) from error
    return Archive(path, read_archive_identity(path))


def _drop_byte_code(folder: Path) -> None:
    """Remove what Python would run instead of the signed source, though it need not be made from it."""
    for cache in sorted(folder.rglob("__pycache__")):
        try:
            shutil.rmtree(cache)
        except OSError as error:  # also of a link
            raise UserError(f"{cache}: byte code that nobody signed, and that cannot be removed: {error}") from error
