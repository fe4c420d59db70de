"""Run TorchServe on this machine: `make serve | stop | status | logs`."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from classifier.answer_form import FORMS
from classifier.identity import UNTRAINED
from classifier.recipe import Answers

from scripts.archives.store import STORE, Archive
from scripts.console import UserError, done, out, step, unread, warn_untrained
from scripts.exporter import beside
from scripts.packages import require
from scripts.serving.archives import OTHERS, admitted, as_snapshot, damage, idle
from scripts.serving.prepare_java import prepare
from scripts.serving.status import LOST, lost, show
from scripts.serving.versions import remember_defaults
from scripts.torchserve.config import (
    CONFIG_FILE,
    EXPORTER,
    SECURE,
    read_config,
    saved_models,
    with_absolute_files,
    with_free_ports,
)
from scripts.torchserve.launch import Variables, refuse_envelope
from scripts.torchserve.log import Workers
from scripts.torchserve.server import (
    ANSWERS,
    CONSOLE_LOG,
    METRICS,
    PUBLIC_KEY,
    SNAPSHOTS,
    STATE_FOLDER,
    Server,
    find,
    refuse_a_second,
    remembered_key,
    start,
    stop,
    wait_ready,
)

if TYPE_CHECKING:
    from scripts.admission.signing import PublicKeys

_LOOK_S: Final = 5.0  # between two checks of the workers of a server in the foreground
Form = Literal["recipe", "full", "stock"]  # recipe: each model answers as its recipe says
Log = Literal["text", "json", "off"]
_KEPT_LOG: Final = 10_000_000  # bytes of the log of a server in the foreground


def serve(
    config: dict[str, str],
    state: Path,
    models: str | None,
    foreground: bool,
    public_key: Path | None = None,
    answers: Form | None = None,
    log: Log = "text",
    traces: str | None = None,
) -> None:
    """Start a server, wait until it is ready, and print how to reach it.

    Args:
        config: the configuration; its model_store is absolute.
        state: the folder for all that the server writes.
        models: the archives to load, separated by spaces; if None, those of the last server, or the store's one model.
        foreground: stay until the server ends or the program is interrupted.
        public_key: the key that signs archives, a file or a folder of several; if None, that of the last server.
        answers: the form of all answers; if None, as the last server answered.
        log: the form of the request log.
        traces: the base URL of a collector of traces; None for no traces.
    """
    refuse_a_second(state)
    refuse_envelope(config, os.environ)
    form = _chosen_form(answers, state)
    if public_key is None and (public_key := remembered_key(state)) is not None:
        step(
            f"archives must be signed by {public_key}, as for the last server; to end that, remove {state / PUBLIC_KEY}"
        )
    keys = None if public_key is None else _keys(public_key)
    snapshots = set((state / SNAPSHOTS).glob("*.cfg"))
    saved = saved_models(snapshots) if models is None else None
    archives = admitted(saved, models, Path(config["model_store"]), keys)
    config = config | {"model_snapshot": as_snapshot(archives) if saved is None else saved}
    prepare(config)
    _announce(archives, restored=saved is not None)
    started, ready = time.monotonic(), False
    try:
        metrics = state / METRICS if config.get(EXPORTER) else None
        variables = Variables(
            console=foreground,
            answers=form,
            log=None if log == "off" else log,
            traces=_collector(traces),
            metrics=metrics,
        )
        server = start(config, archives, state, public_key=public_key, variables=variables)
        with out.status("waiting until every worker is READY"):
            _wait(server, state, archives, saved)
        ready = True
        _remember_form(form, state)
        _remove(snapshots)
        remember_defaults(server.client(), state)
        if not foreground:
            beside.start(server, state)
        with unread():
            done(f"ready after {time.monotonic() - started:.1f} s")
            show(server)
        if foreground:
            _stay(server, state)
    except BaseException:  # above all an interrupt
        stop(state)
        beside.stop(state)
        if not ready:  # the next server must not repeat a start that failed
            _remove(set((state / SNAPSHOTS).glob("*.cfg")) - snapshots)
        raise


def _collector(traces: str | None) -> str | None:
    """The collector, with what workers send traces with.

    Raises:
        UserError: it is no address, or the packages are missing.
    """
    if not traces:
        return None
    address = urlsplit(traces)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise UserError(f"TRACES={traces}: expected the address of a collector, such as http://localhost:4318")
    require("traces", why=f"TRACES={traces}")
    return traces


def _keys(path: Path) -> "PublicKeys":
    from scripts.admission.signing import read_public_keys  # imports cryptography

    return read_public_keys(path)


def _wait(server: Server, state: Path, archives: list[Archive], saved: str | None) -> None:
    """Wait until the server is ready.

    Raises:
        UserError: it cannot load what it should. TorchServe does not say which archive it could not read, so the
            damaged ones are found here: to read all of them at each start would take too long.
    """
    try:
        wait_ready(server, state, () if saved is None else idle(saved))
    except UserError as error:
        others = () if saved is None else (OTHERS,)
        raise UserError("\n".join([str(error), *damage(archives), *others])) from error


def _chosen_form(said: Form | None, state: Path) -> Answers | None:
    """The form of the answers: what was said, or that of the last server; None for that of each recipe.

    Raises:
        UserError: the state folder's own record of the last server is damaged.
    """
    path = state / ANSWERS
    if said is not None or not path.exists():
        return None if said == "recipe" else said
    remembered = path.read_text()
    for form in FORMS:
        if form == remembered:
            step(f"answers in the form `{form}`, as the last server's; ANSWERS=recipe ends that")
            return form
    raise UserError(f"{path} has {remembered!r}, which is no form of answers; remove it, or pass ANSWERS=…")


def _remember_form(form: Answers | None, state: Path) -> None:
    """Keep the form for the next servers of that folder: a restart must not change what clients read."""
    if form is None:
        (state / ANSWERS).unlink(missing_ok=True)
    else:
        (state / ANSWERS).write_text(form)


def _announce(archives: list[Archive], *, restored: bool) -> None:
    """Print which archives are about to be served, and which of them are untrained."""
    for archive in archives:
        if archive.identity.model.weights == UNTRAINED:
            warn_untrained(archive.path.name, "Build with WEIGHTS=pretrained, or WEIGHTS=<your state_dict>.")
    names = ", ".join(archive.path.name for archive in archives)
    step(f"starting TorchServe with {names}" + (", as the last server had" if restored else ""))


def _remove(paths: set[Path]) -> None:
    for path in paths:
        path.unlink()


def _stay(server: Server, state: Path) -> None:
    """Run the exporter, and follow the server, until it ends or the program is interrupted."""
    from scripts.exporter.exporter import exporting  # imports what no server in the background needs here

    with exporting(server, state):
        _follow(server, state)


def _follow(server: Server, state: Path) -> None:
    """Show the log as it grows, until the server ends or the program is interrupted. The log file is kept small.

    Raises:
        UserError: the server ended by itself, a worker dies again and again, or a worker is lost.
    """
    workers, client = Workers(), server.client(connect_retries=0)
    looked, lost_before = time.monotonic(), set[int]()
    with (state / CONSOLE_LOG).open("r+", errors="replace") as log:
        while find(state) is not None:
            for line in iter(log.readline, ""):
                out.out(line, end="")
                workers.read(line)
            if trouble := workers.trouble:  # restarts do not help, but whatever started this program may do more
                raise UserError(f"{trouble}\nTorchServe is stopped")
            if time.monotonic() - looked > _LOOK_S:
                lost_now = lost(client)
                if lost_now & lost_before:  # seen twice: TorchServe had the time to notice
                    raise UserError(f"{LOST}\nTorchServe is stopped")
                looked, lost_before = time.monotonic(), lost_now
            if log.tell() > _KEPT_LOG:
                log.seek(0)
                log.truncate()
            time.sleep(0.2)
    raise UserError(f"TorchServe ended by itself; see {state / CONSOLE_LOG}")


def main(
    *,
    models: tuple[str, ...] = (),
    ports: Literal["config", "free"] = "config",
    foreground: bool = False,
    secure: bool = False,
    public_key: Path | None = None,
    answers: Form | None = None,
    log: Log = "text",
    traces: str | None = None,
    config: Path = CONFIG_FILE,
    store: Path = STORE,
    state: Path = STATE_FOLDER,
) -> None:
    """Start TorchServe and wait until every worker is READY.

    Args:
        models: archives to serve; without it, those of the last server, or the one model that lies in the store.
        ports: the configuration's ports, or any that are free.
        foreground: stay in the foreground and show the log.
        secure: ask for tokens, whatever the configuration says.
        public_key: the key that must have signed every archive, a PEM file or a folder of several; the last server's
            without it.
        answers: the form of all answers: `full`, this project's; `stock`, that of TorchServe's own image_classifier;
            `recipe`, as each model's recipe says; the last server's without it.
        log: the form of the request log, a line for each request: `text`, `json`, or `off` for none.
        traces: address of a collector that takes OpenTelemetry's OTLP over HTTP, such as http://localhost:4318; without
            it there are no traces.
        config: TorchServe's configuration.
        store: folder of the archives.
        state: folder for all that the server writes.
    """
    settings = with_absolute_files(read_config(config), config.parent) | {"model_store": str(store.resolve())}
    if ports == "free":
        settings = with_free_ports(settings)
    if secure:
        settings |= SECURE
    serve(settings, state, " ".join(models) or None, foreground, public_key, answers, log, traces)


def stop_server(*, state: Path = STATE_FOLDER) -> None:
    """Stop the server that `serve` started.

    Args:
        state: state folder of the server.
    """
    stopped = stop(state)
    beside.stop(state)  # it has nothing more to say, and counts the last answers on its way out
    done("stopped" if stopped else "no server was running")
