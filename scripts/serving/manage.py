"""Manage a running server's models: `make register | versions | describe | default | scale | unregister`."""

from pathlib import Path

from scripts.admission.admit import admit
from scripts.admission.signing import PublicKeys, read_public_keys
from scripts.archives.name import numbers
from scripts.archives.runtimes import require_runtime
from scripts.archives.store import STORE, find_in_store
from scripts.console import UserError, done, out, step
from scripts.serving.versions import remember_defaults, show_versions
from scripts.serving.workers import check_workers, or_force, patience, set_workers
from scripts.torchserve.chosen import chosen_model
from scripts.torchserve.client import Client
from scripts.torchserve.config import read_config
from scripts.torchserve.described import ModelVersion
from scripts.torchserve.drain import drained
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.loading import NotLoadedError, loading, log_since, position
from scripts.torchserve.log import last_words
from scripts.torchserve.server import CONSOLE_LOG, STATE_FOLDER, remembered_key, running


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
    before, check = position(log), loading(log, model.name, model.version)
    try:
        client.register(found.path.name, model.name, model.version, check)
    except TimeoutError as error:
        raise UserError(f"{error}; the version stays registered, see `make versions` and `make logs`") from error
    except RequestFailedError as error:
        if error.status < 500:  # these leave nothing behind
            raise UserError(str(error)) from error
        _take_away(client, model.name, model.version)
        raise UserError(f"{error}: {last_words(log_since(log, before))}") from error
    except NotLoadedError as error:
        _take_away(client, model.name, model.version)
        raise UserError(f"{error}\nThe version is taken away again") from error
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


def register_archive(
    archive: str, *, workers: int | None = None, public_key: Path | None = None, state: Path = STATE_FOLDER
) -> None:
    """Add a version and wait until it is READY.

    Args:
        archive: a file of the server's model store.
        workers: how many; as the archive says without it.
        public_key: the key that must have signed the archive; a PEM file, or a folder of several.
        state: state folder of the server.
    """
    if workers is not None:
        check_workers(workers, least=1)
    server = running(state)
    found = _in_store(archive, state)
    client = server.client()
    name, version = register(client, found, state / CONSOLE_LOG, _keys(public_key, state))
    new = client.version(name, version)
    if workers is not None and workers != len(new.workers):  # TorchServe lets an archive win over the call's parameters
        set_workers(server, new, workers, state, patience(None, force=False))
        new = client.version(name, version)
    remember_defaults(client, state)  # of a model that had no version, the first is the default
    if client.defaults().get(name) == version:
        done(f"{name} {version} is READY, and is the default, which answers")
    else:
        done(f"{name} {version} is READY; `make default MODEL={name} VERSION={version}` makes it the default")
    out.print(f"  {_settings(new, asked=workers is not None)}")


def _settings(version: ModelVersion, *, asked: bool) -> str:
    """What applies to a version, and who said so."""
    count = len(version.workers)
    workers = f"{count} worker{'s' * (count != 1)}{' as you asked' * asked}"
    rest = f"batches of up to {version.batch_size}, {version.max_batch_delay_ms} ms for a batch to fill"
    return f"{workers}; {rest}, {version.response_timeout_s} s for an answer, as the archive says"


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
    force: bool = False,
    wait: int | None = None,
    state: Path = STATE_FOLDER,
    store: Path = STORE,
) -> None:
    """Set the number of workers, and wait until all of them are READY. Workers that go finish their batch first.

    Args:
        workers: how many.
        model: name of the model; without it, the one model that runs or lies in the store.
        version: version of the model; its default version without it.
        force: allow no workers at all, and take workers away even if requests are lost.
        wait: how many seconds requests may take until workers are taken away; 130 without it, 10 with `force`.
        state: state folder of the server.
        store: folder of the archives.
    """
    check_workers(workers, least=0)
    server, name = running(state), chosen_model(model, state, store)
    client = server.client()
    now = client.answering(name) if version is None else client.version(name, version)
    if workers == 0 and not force:
        raise UserError(f"WORKERS=0 leaves nobody to answer for {name} {now.version}; pass FORCE=1 if that is meant")
    set_workers(server, now, workers, state, patience(wait, force=force), force=force)
    done(f"{name} {now.version} has {workers} worker{'s' * (workers != 1)}")


def unregister(
    *,
    version: str,
    model: str | None = None,
    force: bool = False,
    wait: int | None = None,
    state: Path = STATE_FOLDER,
    store: Path = STORE,
) -> None:
    """Remove a version when its last request is answered. Its archive stays in the store.

    Args:
        version: the version.
        model: its model; without it, the one model that runs or lies in the store.
        force: remove even the last version, the default one, after which the newest of the others is the default, or
            one that still gets requests.
        wait: how many seconds its requests may take; 130 without it, 10 with `force`.
        state: state folder of the server.
        store: folder of the archives.
    """
    name, server = chosen_model(model, state, store), running(state)
    client, patience_s = server.client(), patience(wait, force=force)
    others = [one.version for one in client.versions(name) if one.version != version]
    if client.version(name, version).version == client.defaults()[name]:
        if not force:
            text = f"{name} {version} is the default version, which answers; make another the default, or pass FORCE=1"
            raise UserError(text if others else f"{name} {version} is the last version of {name}; pass FORCE=1")
        if others:  # TorchServe never removes the default version while there are others
            done(client.set_default(name, max(others, key=numbers)))
    step(f"waiting until nothing is asked of {name} {version} any more")
    with or_force(drained(server, name, version, patience_s), force):
        client.unregister(name, version)
    remember_defaults(client, state)
    done(f"{name} {version} is unregistered")
