"""Run TorchServe on this machine: `make serve | stop | status | logs`."""

import argparse
import json
import time
from pathlib import Path
from typing import Final

import psutil
from classifier.identity import UNTRAINED

from scripts.admission.admit import admit
from scripts.admission.signing import PublicKeys, add_public_key, read_public_keys
from scripts.archives.store import Archive
from scripts.console import UserError, done, out, run, step, tail, warn, warn_untrained
from scripts.torchserve.client import Client, RequestFailedError
from scripts.torchserve.config import CONFIG_FILE, SECURE, read_config, saved_models, with_free_ports
from scripts.torchserve.log import Workers, read_workers
from scripts.torchserve.server import (
    CONSOLE_LOG,
    SNAPSHOTS,
    STATE_FOLDER,
    Server,
    find,
    refuse_a_second,
    running,
    start,
    stop,
    wait_ready,
)

_DEFAULT_MODELS: Final = "vgg16"
_LOOK_S: Final = 5.0  # between two looks at the workers of a server in front
_LOST: Final = (
    "a worker's process is gone, and TorchServe takes it for READY: it lost count at gRPC's StreamPredictions2"
)
_KEPT_LOG: Final = 10_000_000  # bytes of the log of a server in front


def serve(
    config: dict[str, str], state: Path, models: str | None, foreground: bool, public_key: Path | None = None
) -> None:
    """Start a server, wait until it is ready, say how to reach it.

    Args:
        config: the configuration; its model_store is absolute.
        state: the folder for all that the server writes.
        models: what to load, separated by spaces; without it what the last server had, or else the default.
        foreground: stay until the server ends or somebody interrupts.
        public_key: of whoever signs archives, a file or a folder of several; without it they need no signature.
    """
    refuse_a_second(state)
    keys = None if public_key is None else read_public_keys(public_key)
    snapshots = set((state / SNAPSHOTS).glob("*.cfg"))
    saved = saved_models(snapshots) if models is None else None
    if saved is not None:
        config = config | {"model_snapshot": saved}
    archives = _admitted(saved, models or _DEFAULT_MODELS, Path(config["model_store"]), keys)
    _announce(archives, restored=saved is not None)
    started, ready = time.monotonic(), False
    try:
        server = start(config, archives, state, public_key=public_key, console=foreground)
        with out.status("waiting until every worker is READY"):
            wait_ready(server, state)
        ready = True
        _remove(snapshots)
        done(f"ready after {time.monotonic() - started:.1f} s")
        _show(server)
        if foreground:
            _follow(server, state)
    except BaseException:  # an interrupt above all
        stop(state)
        if not ready:  # a start that failed is not worth repeating
            _remove(set((state / SNAPSHOTS).glob("*.cfg")) - snapshots)
        raise


def _admitted(saved: str | None, models: str, store: Path, keys: PublicKeys | None) -> list[Archive]:
    """What is served: the archives that the last server had, or those named."""
    if saved is not None:
        return _restored(saved, store, keys)
    return [admit(name, store, keys, "served") for name in models.split()]


def _announce(archives: list[Archive], *, restored: bool) -> None:
    """Say what is about to be served, and which of it is untrained."""
    for archive in archives:
        if archive.identity.model.weights == UNTRAINED:
            warn_untrained(archive.path.name, "Build with WEIGHTS=pretrained, or WEIGHTS=<your state_dict>.")
    names = ", ".join(archive.path.name for archive in archives)
    step(f"starting TorchServe with {names}" + (", as the last one had" if restored else ""))


def _restored(saved: str, store: Path, keys: PublicKeys | None) -> list[Archive]:
    models = json.loads(saved)["models"]
    registered = [(version["marName"], number) for versions in models.values() for number, version in versions.items()]
    try:
        archives = [admit(name, store, keys, "served") for name, _ in registered]
    except UserError as error:
        raise UserError(f"{error}\nThe last server had it; `make serve MODELS=…` starts afresh with others.") from error
    for archive, (_, number) in zip(archives, registered, strict=True):
        if archive.identity.model.version != number:
            warn(f"{archive.path.name} is version {archive.identity.model.version}; the last server had {number} of it")
    return archives


def _remove(paths: set[Path]) -> None:
    for path in paths:
        path.unlink()


def _show(server: Server) -> None:
    addresses = server.addresses
    out.print(f"  inference   {addresses.inference}   gRPC {addresses.grpc_inference}")
    out.print(f"  management  {addresses.management}   gRPC {addresses.grpc_management}")
    out.print(f"  metrics     {addresses.metrics}/metrics")
    if server.models:
        token = "" if server.key_file is None else ' -H "Authorization: Bearer $(make -s token)"'
        out.print(f"  try         curl {addresses.inference}/predictions/{server.models[0][0]} -T <picture>{token}")


def _follow(server: Server, state: Path) -> None:
    """Show the log as it grows, until the server ends or somebody interrupts. What was shown is not kept for ever.

    Raises:
        UserError: the server ended by itself, a worker dies again and again, or one is lost.
    """
    workers, client = Workers(), server.client(connect_retries=0)
    looked, lost_before = time.monotonic(), set[int]()
    with (state / CONSOLE_LOG).open("r+", errors="replace") as log:
        while find(state) is not None:
            for line in iter(log.readline, ""):
                out.out(line, end="")
                workers.read(line)
            if trouble := workers.trouble:  # whoever started it may know more to do than to try for ever
                raise UserError(f"{trouble}\nTorchServe is stopped")
            if time.monotonic() - looked > _LOOK_S:
                lost_now = _lost(client)
                if lost_now & lost_before:  # seen twice: TorchServe had the time to notice
                    raise UserError(f"{_LOST}\nTorchServe is stopped")
                looked, lost_before = time.monotonic(), lost_now
            if log.tell() > _KEPT_LOG:
                log.seek(0)
                log.truncate()
            time.sleep(0.2)
    raise UserError(f"TorchServe ended by itself; see {state / CONSOLE_LOG}")


def _lost(client: Client) -> set[int]:
    """Processes of workers that are gone, though TorchServe calls these READY and so will not start them again."""
    try:
        versions = client.versions()
    except RequestFailedError:  # it is busy, or ending, which is noticed elsewhere
        return set()
    return {pid for version in versions if version.ready for pid in version.pids if not psutil.pid_exists(pid)}


def status(state: Path) -> None:
    """Where the server listens, and every version of every model with its workers and how they fared."""
    server = running(state)
    _show(server)
    history = read_workers(state / CONSOLE_LOG)
    for version in server.client().versions():
        workers = ", ".join(version.workers) or "no workers"
        out.print(f"  {version.name} {version.version}  {version.archive}  {workers}")
        for worker in history.of(version.name, version.version):
            if worker.restarts or worker.trouble:
                out.print(f"    {worker.name} restarted {worker.restarts} times; the last reason: {worker.reason}")
    if _lost(server.client()):
        warn(f"{_LOST}\n`make stop` and `make serve`, or `make scale WORKERS=0` and then as many as there were.")
    if trouble := history.trouble:
        warn(f"{trouble}\n`make stop`, and mend it; what it serves still, it serves without that worker.")


def logs(state: Path, lines: int) -> None:
    """The end of the server's log."""
    path = state / CONSOLE_LOG
    if not path.exists():
        raise UserError("there is no log; no server was started yet")
    out.out(tail(path, lines))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m scripts.serving.serve", description=__doc__)
    parser.add_argument("--state", type=Path, default=STATE_FOLDER, help="folder for all that the server writes")
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("start", help="start in the background and wait until ready")
    starting.add_argument("--config", type=Path, default=CONFIG_FILE)
    starting.add_argument("--store", type=Path, default=Path("model_store"))
    starting.add_argument("--models", help="archives, separated by spaces")
    starting.add_argument("--ports", choices=("config", "free"), default="config")
    starting.add_argument("--foreground", action="store_true", help="stay in front, show the log")
    starting.add_argument("--secure", action="store_true", help="ask for tokens, whatever the configuration says")
    add_public_key(starting)
    commands.add_parser("stop", help="stop it")
    commands.add_parser("status", help="addresses, models, workers")
    commands.add_parser("logs", help="the end of its log").add_argument("--lines", type=int, default=40)
    arguments = parser.parse_args()
    state: Path = arguments.state
    if arguments.command == "start":
        config = read_config(arguments.config) | {"model_store": str(arguments.store.resolve())}
        if arguments.ports == "free":
            config = with_free_ports(config)
        if arguments.secure:
            config |= SECURE
        serve(config, state, arguments.models or None, arguments.foreground, arguments.public_key)
    elif arguments.command == "stop":
        done("stopped" if stop(state) else "no server was running")
    elif arguments.command == "status":
        status(state)
    else:
        logs(state, arguments.lines)


if __name__ == "__main__":
    run(main)
