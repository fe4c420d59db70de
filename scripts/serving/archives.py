"""The archives that a server starts with: those that are named, or those of the last server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from classifier.digests import verify
from classifier.errors import BrokenArchiveError

from scripts.admission.admit import admit
from scripts.archives.settings import front_end_settings
from scripts.archives.store import Archive, model_in, read_archive_serving
from scripts.console import UserError, warn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripts.admission.signing import PublicKeys

OTHERS: Final = "The last server had this archive; `make serve MODELS=…` starts with others instead."


def as_snapshot(archives: list[Archive]) -> str:
    """The models of a server that starts with these archives, as its `model_snapshot`.

    As a restarted server does, it takes what it serves, and which version is the default, from one list.

    Raises:
        UserError: an archive is damaged.
    """
    models: dict[str, dict[str, Any]] = {}
    for archive in archives:
        model = archive.identity.model
        versions = models.setdefault(model.name, {})
        versions[model.version] = {
            "defaultVersion": not versions,  # the first one
            "marName": archive.path.name,
            "runtimeType": "python",
            **front_end_settings(read_archive_serving(archive.path)),
        }
    return json.dumps({"name": "first", "modelCount": len(archives), "models": models})


def admitted(saved: str | None, models: str | None, store: Path, keys: PublicKeys | None) -> list[Archive]:
    """The archives to serve: those of the last server, those that were named, or the store's one model.

    Raises:
        UserError: one is not there or refused, or two are of one version.
    """
    if saved is not None:
        found = _restored(saved, store, keys)
    else:
        found = [admit(name, store, keys, "served") for name in (models or model_in(store)).split()]
    _refuse_doubles(found)
    return found


def _restored(saved: str, store: Path, keys: PublicKeys | None) -> list[Archive]:
    models = json.loads(saved)["models"]
    registered = [(version["marName"], number) for versions in models.values() for number, version in versions.items()]
    try:
        # a path, because a name could also mean another version; `store` is absolute
        archives = [admit(str(store / name), store, keys, "served") for name, _ in registered]
    except UserError as error:
        raise UserError(f"{error}\n{OTHERS}") from error
    for archive, (_, number) in zip(archives, registered, strict=True):
        if archive.identity.model.version != number:
            found = archive.identity.model.version
            warn(f"{archive.path.name} is version {found}; the last server had its version {number}")
    return archives


def _refuse_doubles(archives: list[Archive]) -> None:
    """Refuse two archives of one version, of which TorchServe loads only one.

    Raises:
        UserError: there are such.
    """
    first: dict[tuple[str, str], Archive] = {}
    for archive in archives:
        model = archive.identity.model
        if (other := first.setdefault((model.name, model.version), archive)) is not archive:
            raise UserError(
                f"{other.path.name} and {archive.path.name} are both version {model.version} of {model.name}, which a "
                "server has once: name one of them in MODELS=…, or build the other as a version of its own"
            )


def damage(archives: list[Archive]) -> Iterator[str]:
    """What is wrong with the archives that differ from what was built."""
    for archive in archives:
        try:
            verify(archive.path)
        except BrokenArchiveError as error:
            yield f"{archive.path} is broken ({error}); build it again with `make archive`"


def idle(saved: str) -> set[tuple[str, str]]:
    """The model and version of those that the last server had scaled to no workers."""
    models = json.loads(saved)["models"].items()
    return {(name, number) for name, versions in models for number, one in versions.items() if one["minWorkers"] == 0}
