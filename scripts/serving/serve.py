"""Run TorchServe on this machine: `make serve | stop | status | logs`."""

import json
import time
from pathlib import Path
from typing import Final, Literal

import psutil
from classifier.identity import UNTRAINED

from scripts.admission.admit import admit
from scripts.admission.signing import PublicKeys, read_public_keys
from scripts.archives.store import STORE, Archive, model_in
from scripts.console import UserError, done, out, step, tail, warn, warn_untrained
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
        models: what to load, separated by spaces; without it what the last server had, or else the store's one model.
        foreground: stay until the server ends or somebody interrupts.
        public_key: of whoever signs archives, a file or a folder of several; without it they need no signature.
    """
    refuse_a_second(state)
    keys = None if public_key is None else read_public_keys(public_key)
    snapshots = set((state / SNAPSHOTS).glob("*.cfg"))
    saved = saved_models(snapshots) if models is None else None
    if saved is not None:
        config = config | {"model_snapshot": saved}
    archives = _admitted(saved, models, Path(config["model_store"]), keys)
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


def _admitted(saved: str | None, models: str | None, store: Path, keys: PublicKeys | None) -> list[Archive]:
    """What is served: the archives that the last server had, or those named, or the store's one model."""
    if saved is not None:
        return _restored(saved, store, keys)
    return [admit(name, store, keys, "served") for name in (models or model_in(store)).split()]


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


def status(*, state: Path = STATE_FOLDER) -> None:
    """Show addresses, models and workers, and how the workers fared.

    Args:
        state: state folder of the server.
    """
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


def logs(*, lines: int = 40, state: Path = STATE_FOLDER) -> None:
    """Show the end of the server's log.

    Args:
        lines: how many.
        state: state folder of the server.
    """
    path = state / CONSOLE_LOG
    if not path.exists():
        raise UserError("there is no log; no server was started yet")
    out.out(tail(path, lines))


def main(
    *,
    models: tuple[str, ...] = (),
    ports: Literal["config", "free"] = "config",
    foreground: bool = False,
    secure: bool = False,
    public_key: Path | None = None,
    config: Path = CONFIG_FILE,
    store: Path = STORE,
    state: Path = STATE_FOLDER,
) -> None:
    """Start TorchServe and wait until every worker is READY.

    Args:
        models: archives to serve; without them what the last server had, or the one model that lies in the store.
        ports: those of the configuration, or any that are free.
        foreground: stay in front and show the log.
        secure: ask for tokens, whatever the configuration says.
        public_key: take only archives that this key has signed; a PEM file, or a folder of several.
        config: TorchServe's configuration.
        store: folder of the archives.
        state: folder for all that the server writes.
    """
    settings = read_config(config) | {"model_store": str(store.resolve())}
    if ports == "free":
        settings = with_free_ports(settings)
    if secure:
        settings |= SECURE
    serve(settings, state, " ".join(models) or None, foreground, public_key)


def stop_server(*, state: Path = STATE_FOLDER) -> None:
    """Stop the server that `serve` started.

    Args:
        state: state folder of the server.
    """
    done("stopped" if stop(state) else "no server was running")
