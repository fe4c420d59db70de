"""Start the development server: `make devserver`."""

import argparse
from pathlib import Path

from devserver.app import create_app
from scripts.archives.loaded import loaded
from scripts.archives.store import find_archive
from scripts.console import UserError, run, step


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m devserver", description=__doc__)
    parser.add_argument("--archive", default="vgg16", help="name or path of an archive of the store")
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    arguments = parser.parse_args()
    archive = find_archive(arguments.archive, arguments.store)
    step(f"loading {archive.path.name}")
    with loaded(archive.path) as classifier:
        classifier.warm_up()
        try:
            create_app(classifier).run(arguments.host, arguments.port, threaded=True)
        except OSError as error:
            raise UserError(f"{arguments.host}:{arguments.port}: {error.strerror}; try PORT=5001") from error


if __name__ == "__main__":
    run(main)
