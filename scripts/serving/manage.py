"""Manage a running server's models: `make register | versions | describe | default | scale | unregister`."""

from pathlib import Path
from typing import Final

from scripts.admission.admit import admit
from scripts.admission.signing import PublicKeys, read_public_keys
from scripts.archives.name import numbers
from scripts.archives.runtimes import require_runtime
from scripts.archives.store import STORE, find_in_store
from scripts.console import UserError, done, out, step
from scripts.serving.versions import remember_defaults, show_versions
from scripts.torchserve.chosen import chosen_model
from scripts.torchserve.client import Client
from scripts.torchserve.config import read_config
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.log import last_words
from scripts.torchserve.server import CONSOLE_LOG, STATE_FOLDER, remembered_key, running

_MOST_WORKERS: Final = 1000  # far more than any machine has room for; TorchServe takes a number beyond Java's int for 1


def register(client: Client, archive: Path, log: Path, keys: PublicKeys | None = None) -> tuple[str, str]:
    """Register an archive of the model store and wait until its workers are READY; returns model and version.

    First the archive's signature (if there are keys), layout, manifest and digests are checked. If a worker cannot load
    it, the version is removed again, and the earlier versions go on serving.

    Raises:
        UserError: the archive differs from what was built or signed, the server refused it, or a worker cannot load it.
    """
    found = admit(archive.name, archive.parent, keys, "registered")
    model = found.identity.model
    require_runtime(found.identity)
    step(f"registering {model.name} {model.version} from {found.path.name}")
    before = log.stat().st_size if log.exists() else 0
    try:
        client.register(found.path.name)
        client.wait_ready([(model.name, model.version)], deadline_s=10)
    except TimeoutError as error:
        raise UserError(f"{error}; the version stays registered, see `make versions` and `make logs`") from error
    except RequestFailedError as error:
        if error.status >= 500:  # 4xx leave nothing behind; 500 and 507 leave a version without workers
            _take_away(client, model.name, model.version)
            raise UserError(f"{error}: {last_words(_log_since(log, before))}") from error
        raise UserError(str(error)) from error
    return model.name, model.version


def _in_store(name: str, state: Path) -> Path:
    """The archive of that name or path in the server's own model store, the only folder that TorchServe loads from."""
    return find_in_store(name, Path(read_config(state / "config.properties")["model_store"]))


def _keys(path: Path | None, state: Path) -> PublicKeys | None:
    """The keys to trust: those that were named, or else those that the server was started with."""
    chosen = path or remembered_key(state)
    return None if chosen is None else read_public_keys(chosen)


def _take_away(client: Client, model: str, version: str) -> None:
    try:
        client.unregister(model, version)
    except RequestFailedError as error:
        if error.status != 404:
            raise


def _log_since(log: Path, position: int) -> str:
    if not log.exists():
        return ""
    with log.open(errors="replace") as file:
        file.seek(position)
        return file.read()


def register_archive(archive: str, *, public_key: Path | None = None, state: Path = STATE_FOLDER) -> None:
    """Add a version and wait until it is READY.

    Args:
        archive: a file of the server's model store.
        public_key: the key that must have signed the archive; a PEM file, or a folder of several.
        state: state folder of the server.
    """
    server = running(state)
    found = _in_store(archive, state)
    client = server.client()
    model, version = register(client, found, state / CONSOLE_LOG, _keys(public_key, state))
    remember_defaults(client, state)  # of a model that had no version, the first is the default
    if client.defaults().get(model) == version:
        done(f"{model} {version} is READY, and is the default, which answers")
    else:
        done(f"{model} {version} is READY; `make default MODEL={model} VERSION={version}` makes it the default")


def versions(*, model: str | None = None, state: Path = STATE_FOLDER) -> None:
    """List the registered versions, the default one among them, and what their archives hold.

    Args:
        model: the one model to list; all without it.
        state: state folder of the server.
    """
    show_versions(running(state).client(), state, model)


def describe(
    *, model: str | None = None, version: str | None = None, state: Path = STATE_FOLDER, store: Path = STORE
) -> None:
    """Show a model's description of itself.

    Args:
        model: the model to ask; without it, the one model that runs or lies in the store.
        version: its version; the default one without it.
        state: state folder of the server.
        store: folder of the archives.
    """
    out.print_json(data=running(state).client().describe(chosen_model(model, state, store), version))


def default(*, version: str, model: str | None = None, state: Path = STATE_FOLDER, store: Path = STORE) -> None:
    """Make a version the default, which answers requests that name no version.

    Args:
        version: the version.
        model: its model; without it, the one model that runs or lies in the store.
        state: state folder of the server.
        store: folder of the archives.
    """
    client = running(state).client()
    done(client.set_default(chosen_model(model, state, store), version))
    remember_defaults(client, state)


def scale(
    *,
    workers: int,
    model: str | None = None,
    version: str | None = None,
    state: Path = STATE_FOLDER,
    store: Path = STORE,
) -> None:
    """Set the number of workers, and wait until all of them are READY.

    Args:
        workers: how many.
        model: name of the model; without it, the one model that runs or lies in the store.
        version: version of the model; its default version without it.
        state: state folder of the server.
        store: folder of the archives.
    """
    if not 0 <= workers <= _MOST_WORKERS:
        raise UserError(f"WORKERS={workers}: expected a number from 0 to {_MOST_WORKERS}")
    done(running(state).client().scale(chosen_model(model, state, store), workers, version))


def unregister(
    *,
    version: str,
    model: str | None = None,
    force: bool = False,
    state: Path = STATE_FOLDER,
    store: Path = STORE,
) -> None:
    """Remove a version. Its archive stays in the store.

    Args:
        version: the version.
        model: its model; without it, the one model that runs or lies in the store.
        force: remove even the last version, or the default one, after which the newest of the others is the default.
        state: state folder of the server.
        store: folder of the archives.
    """
    name = chosen_model(model, state, store)
    client = running(state).client()
    others = [one.version for one in client.versions(name) if one.version != version]
    if client.version(name, version).version == client.defaults()[name]:
        if not force:
            text = f"{name} {version} is the default version, which answers; make another the default, or pass FORCE=1"
            raise UserError(text if others else f"{name} {version} is the last version of {name}; pass FORCE=1")
        if others:  # TorchServe never removes the default version while there are others
            done(client.set_default(name, max(others, key=numbers)))
    client.unregister(name, version)
    remember_defaults(client, state)
    done(f"{name} {version} is unregistered")
