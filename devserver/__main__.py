"""Starts the development server: `make devserver`."""

from pathlib import Path
from typing import Literal

from scripts.archives.loaded import loaded
from scripts.archives.store import STORE, chosen_archive
from scripts.console import UserError, step


def main(
    *,
    archive: str | None = None,
    model: str | None = None,
    listen: str = "127.0.0.1",
    port: int = 5000,
    answers: Literal["full", "stock"] | None = None,
    store: Path = STORE,
) -> None:
    """Serve a page for trying pictures by hand.

    Args:
        archive: name or path of an archive; without it, the eager archive of the model.
        model: name of the model; without it, the one model that lies in the store.
        listen: the address to listen on.
        port: the port to listen on.
        answers: the form of the answers, this project's or TorchServe's; the recipe's without it. The page and /predict
            have the full form always.
        store: folder of the archives.
    """
    if not 0 < port < 1 << 16:
        raise UserError(f"PORT={port}: a port is a number from 1 to 65535")
    from devserver.app import create_app  # Flask is an optional package

    found = chosen_archive(archive, model, store)
    step(f"loading {found.path.name}")
    with loaded(found.path) as classifier:
        classifier.warm_up()
        try:
            create_app(classifier, answers).run(listen, port, threaded=True)
        except OSError as error:
            raise UserError(f"{listen}:{port}: {error.strerror}; try PORT=5001") from error
