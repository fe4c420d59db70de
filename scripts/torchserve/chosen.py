"""Chooses a model when the user names none."""

from pathlib import Path

from scripts.archives.store import model_in
from scripts.torchserve.server import find


def chosen_model(model: str | None, state: Path, store: Path) -> str:
    """The model that was named, else the only one that is served, else the only one of the store, else vgg16.

    Raises:
        UserError: a server runs, but does not list its models.
    """
    if model:
        return model
    if server := find(state):
        running = {version.name for version in server.client().versions()}
        if len(running) == 1:
            return running.pop()
    return model_in(store)
