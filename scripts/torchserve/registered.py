"""Which archives a server has, or gets back when it is started again."""

import json
from pathlib import Path

from scripts.torchserve.command import CONFIG
from scripts.torchserve.config import read_config, saved_models
from scripts.torchserve.server import SNAPSHOTS, find


def registered(state: Path) -> set[Path]:
    """The archives of the server of a state folder: of the running one, or those that its snapshot gives to the next.

    Raises:
        UserError: a server runs, but does not list its models.
    """
    if not (state / CONFIG).exists():
        return set()
    if server := find(state):
        names = {version.archive for version in server.client().versions()}
    else:
        models = json.loads(saved_models((state / SNAPSHOTS).glob("*.cfg")) or '{"models": {}}')["models"]
        names = {version["marName"] for versions in models.values() for version in versions.values()}
    store = Path(read_config(state / CONFIG)["model_store"]).resolve()
    return {store / name for name in names}


def is_registered(archive: Path, state: Path) -> bool:
    """Whether the server of a state folder has this archive; raises as `registered`."""
    return archive.parent.resolve() / archive.name in registered(state)
