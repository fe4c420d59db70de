"""Hold every archive of a folder to its digests, before anything of it is run: `python -m scripts.verify <folder>`."""

import argparse
from pathlib import Path

from classifier.digests import verify
from classifier.errors import BrokenArchiveError

from scripts.console import UserError, done, run
from scripts.store import archives_in


def verify_store(store: Path) -> list[Path]:
    """Verify all archives of a folder; returns them.

    Raises:
        UserError: there is none, or one is not what was built.
    """
    archives = archives_in(store)
    if not archives:
        raise UserError(f"there is no archive in {store}")
    for path in archives:
        try:
            verify(path)
        except BrokenArchiveError as error:
            raise UserError(f"{path}: {error}") from error
    return archives


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m scripts.verify", description=__doc__)
    parser.add_argument("store", type=Path, help="folder of archives")
    for path in verify_store(parser.parse_args().store):
        done(f"{path.name} is what was built")


if __name__ == "__main__":
    run(main)
