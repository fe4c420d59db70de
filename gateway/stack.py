"""Everything on one machine: the server, its exporter, Prometheus, the gateway and the dashboard."""

import shutil
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

from gateway.__main__ import PORT
from scripts import background
from scripts.archives.store import STORE
from scripts.console import UserError, done, out, step
from scripts.ports import check_ports, is_listening
from scripts.serving import serve
from scripts.torchserve.config import CONFIG_FILE
from scripts.torchserve.server import STATE_FOLDER, Server, find

FOLDER: Final = Path(".up")  # logs and records of what runs besides the server
_START_DEADLINE_S: Final = 60
_STOP_DEADLINE_S: Final = 150  # the gateway answers first what it has taken


class _Part(NamedTuple):
    """A program beside the server."""

    verb: str
    options: list[str]
    port: int
    shows: str  # where people find it


def _parts(server: Server, state: Path, store: Path, routes: Path | None, ports: tuple[int, int, int]) -> list[_Part]:
    """What runs besides, in the order in which it starts."""
    prometheus, gateway, dashboard = ports
    model = server.models[0][0]
    replica = urlsplit(server.addresses.inference).netloc
    at = "http://127.0.0.1:{}".format
    chosen = [] if routes is None else [f"--routes={routes}"]
    return [
        _Part("monitor", [f"--state={state}"], prometheus, at(prometheus)),
        _Part(
            "gateway",
            [f"--replicas={replica}", f"--model={model}", f"--store={store}", *chosen],
            gateway,
            f"{at(gateway)}/predictions/{model}",
        ),
        _Part("dashboard", [f"--prometheus={at(prometheus)}"], dashboard, f"{at(dashboard)}/"),
    ]


def up(
    *,
    models: tuple[str, ...] = (),
    routes: Path | None = None,
    port: int = PORT,
    prometheus_port: int = 9090,
    dashboard_port: int = 8084,
    config: Path = CONFIG_FILE,
    store: Path = STORE,
    state: Path = STATE_FOLDER,
    folder: Path = FOLDER,
    ports: Literal["config", "free"] = "config",
) -> None:
    """Start a server, Prometheus, the gateway and the dashboard in the background, each when the last one is ready.

    Args:
        models: archives to serve; without it, those of the last server, or the one model that lies in the store.
        routes: the gateway's file that says which versions answer.
        port: the gateway's port, for clients.
        prometheus_port: Prometheus' port.
        dashboard_port: the dashboard's port.
        config: TorchServe's configuration.
        store: folder of the archives.
        state: folder for all that the server writes.
        folder: folder for the logs of the others.
        ports: the configuration's ports for the server, or any that are free.
    """
    if shutil.which("prometheus") is None:
        raise UserError("Prometheus is not installed; `make setup-system` does it, or put its program on the PATH")
    wanted = {"prometheus": prometheus_port, "gateway": port, "dashboard": dashboard_port}
    check_ports(wanted, "or pass PORT=, PROMETHEUS_PORT= or DASHBOARD_PORT=")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if find(state) is None:
            serve.main(models=models, config=config, store=store, state=state, ports=ports)
        server = find(state)
        if server is None:
            raise UserError("the server ended by itself; see `make logs`")
        for part in _parts(server, state, store, routes, (prometheus_port, port, dashboard_port)):
            with out.status(f"waiting for {part.verb}"):
                _start(part, folder)
            done(f"{part.verb:<10} {part.shows}")
    except BaseException:  # above all an interrupt
        _stop_parts(folder)
        serve.stop_server(state=state)
        raise
    step("`make down` ends them all")


def _start(part: _Part, folder: Path) -> None:
    module = ["scripts.command_line", part.verb, f"--port={part.port}", *part.options]

    def ready(_: int) -> bool:
        return is_listening(f"http://127.0.0.1:{part.port}")

    record, log = folder / f"{part.verb}.json", folder / f"{part.verb}.log"
    background.start(part.verb, module, record, log, _START_DEADLINE_S, ready)


def down(*, state: Path = STATE_FOLDER, folder: Path = FOLDER) -> None:
    """End what `up` started, in reverse order. What the gateway has taken is answered first.

    Args:
        state: state folder of the server.
        folder: folder of the others.
    """
    _stop_parts(folder)
    serve.stop_server(state=state)


def _stop_parts(folder: Path) -> None:
    for verb in ("dashboard", "gateway", "monitor"):
        if background.stop(folder / f"{verb}.json", _STOP_DEADLINE_S):
            done(f"{verb} ended")
