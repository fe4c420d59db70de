"""Manage a running server's models: `make register | versions | describe | default | scale | unregister`."""

import argparse
from pathlib import Path

from rich.table import Table

from scripts.admission.admit import admit
from scripts.admission.signing import PublicKeys, add_public_key, read_public_keys
from scripts.archives.store import find_in_store
from scripts.console import UserError, done, out, run, step
from scripts.torchserve.client import Client, RequestFailedError
from scripts.torchserve.config import read_config
from scripts.torchserve.log import last_words
from scripts.torchserve.server import CONSOLE_LOG, STATE_FOLDER, Server, running


def register(client: Client, archive: Path, log: Path, keys: PublicKeys | None = None) -> tuple[str, str]:
    """Register an archive of the model store and wait until its workers are READY; returns model and version.

    The archive is held to its signature, if there are keys, to its layout, manifest and digests first. If a worker
    cannot load it, the version is taken away again: what served before goes on serving.

    Raises:
        UserError: the archive is not what was built or signed, the server refused it, or a worker cannot load it.
    """
    found = admit(archive.name, archive.parent, keys, "registered")
    model = found.identity.model
    step(f"registering {model.name} {model.version} from {found.path.name}")
    before = log.stat().st_size if log.exists() else 0
    try:
        client.register(found.path.name)
        client.wait_ready([(model.name, model.version)], deadline_s=10)
    except TimeoutError as error:
        raise UserError(f"{error}; it stays registered, see `make versions` and `make logs`") from error
    except RequestFailedError as error:
        if error.status >= 500:  # 4xx leave nothing behind; 500 and 507 leave a version without workers
            _take_away(client, model.name, model.version)
            raise UserError(f"{error}: {last_words(_log_since(log, before))}") from error
        raise UserError(str(error)) from error
    return model.name, model.version


def _in_store(name: str, state: Path) -> Path:
    """The archive of that name or path in the server's own model store, from which alone TorchServe loads it."""
    return find_in_store(name, Path(read_config(state / "config.properties")["model_store"]))


def _keys(path: Path | None, server: Server) -> PublicKeys | None:
    """The keys to trust: those that the server was started with stay in force, whoever forgets to name them."""
    chosen = path or (None if server.public_key is None else Path(server.public_key))
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


def print_versions(client: Client, model: str | None) -> None:
    """A table of the registered versions and their workers."""
    table = Table("model", "version", "archive", "workers")
    for version in client.versions(model):
        table.add_row(version.name, version.version, version.archive, ", ".join(version.workers) or "none")
    out.print(table, soft_wrap=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.serving.manage", description=__doc__)
    parser.add_argument("--state", type=Path, default=STATE_FOLDER, help="state folder of the server")
    commands = parser.add_subparsers(dest="command", required=True)
    registering = commands.add_parser("register", help="add a version from an archive")
    registering.add_argument("archive", type=Path)
    add_public_key(registering)
    commands.add_parser("versions", help="list versions and workers").add_argument("model", nargs="?")
    commands.add_parser("describe", help="what a model says of itself").add_argument("model")
    for name, text in (("default", "set the default version"), ("unregister", "take a version away")):
        command = commands.add_parser(name, help=text)
        command.add_argument("model")
        command.add_argument("version")
    scale = commands.add_parser("scale", help="set the number of workers")
    scale.add_argument("model")
    scale.add_argument("workers", type=int)
    scale.add_argument("version", nargs="?")
    return parser


def main() -> None:
    """Do what the command line says."""
    arguments = _parser().parse_args()
    server = running(arguments.state)
    client = server.client()
    try:
        if arguments.command == "register":
            archive = _in_store(str(arguments.archive), arguments.state)
            keys = _keys(arguments.public_key, server)
            model, version = register(client, archive, arguments.state / CONSOLE_LOG, keys)
            done(f"{model} {version} is READY; `make default MODEL={model} VERSION={version}` makes it the default")
        elif arguments.command == "versions":
            print_versions(client, arguments.model)
        elif arguments.command == "describe":
            out.print_json(data=client.describe(arguments.model))
        elif arguments.command == "default":
            done(client.set_default(arguments.model, arguments.version))
        elif arguments.command == "unregister":
            done(client.unregister(arguments.model, arguments.version))
        else:
            done(client.scale(arguments.model, arguments.workers, arguments.version))
    except RequestFailedError as error:
        raise UserError(str(error)) from error


if __name__ == "__main__":
    run(main)
