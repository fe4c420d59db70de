"""Checks the signature, layout, manifest and digests of every archive of a folder, before any of its code runs.

`python -m scripts.admission.verify <folder>`
"""

import os
import sys
from pathlib import Path

from scripts.admission.admit import admit
from scripts.admission.signing import PublicKeys, public_key, read_public_keys
from scripts.archives.store import archives_in
from scripts.console import UserError, done, run


def verify_store(store: Path, keys: PublicKeys | None = None) -> list[Path]:
    """Verify all archives of a folder, and return their paths.

    Args:
        store: the folder.
        keys: the keys to trust; None if archives need no signature.

    Raises:
        UserError: there are no archives, or one differs from what was built or signed.
    """
    archives = archives_in(store)
    if not archives:
        raise UserError(f"there is no archive in {store}")
    for path in archives:
        admit(path.name, store, keys, "registered")
    return archives


def main() -> None:
    """Verify the archives of the folder that the command line names; PUBLIC_KEY names the key that signs them."""
    if len(sys.argv) != 2:
        raise UserError("name one folder of archives: python -m scripts.admission.verify <folder>")
    path = public_key(os.environ)
    keys = None if path is None else read_public_keys(path)
    for archive in verify_store(Path(sys.argv[1]), keys):
        done(f"{archive.name} is unchanged since it was built" + ("" if keys is None else " and signed"))


if __name__ == "__main__":
    run(main)
