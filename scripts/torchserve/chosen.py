"""Chooses a model when the user names none."""

from pathlib import Path

from scripts.archives.store import DEFAULT_MODEL, model_in
from scripts.console import UserError
from scripts.torchserve.server import find


def chosen_model(model: str | None, state: Path, store: Path) -> str:
    """The model that was named, else the only one that is served, else the only one of the store, else vgg16.

    Raises:
        UserError: several models run and vgg16 is none of them, or a server runs but does not list its models.
    """
    if model:
        return model
    if server := find(state):
        running = {version.name for version in server.client().versions()}
        if len(running) == 1:
            return running.pop()
        if running and DEFAULT_MODEL not in running:
            raise UserError(f"several models run ({', '.join(sorted(running))}); pass MODEL=<one of them>")
    return model_in(store)
