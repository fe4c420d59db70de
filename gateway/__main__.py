"""Runs Envoy in front of TorchServe replicas: `make gateway`, and what steers it while it runs.

The state folder of a running gateway has the finished configuration, and the address of its admin port. Envoy reads
endpoints, clusters and routes again whenever they change.
"""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from classifier.recipe import Recipe, read_recipe

from gateway.applying import apply, prepare, wait_applied
from gateway.configuration import Settings
from gateway.endpoints import SHADOW, Gateway, Replica, parse_replica, parse_replicas
from gateway.envoy import BOOTSTRAP, LOG, running
from gateway.routes import ROUTES_FILE, Routes, RoutesFile, parse_weights, read_routes, set_weights
from scripts.archives.store import STORE, archives_in, model_in, read_archive_identity, read_archive_recipe
from scripts.console import UserError, done, show_table, step, warn
from scripts.ports import check_ports

GATEWAY_FOLDER: Final = Path(".gateway")
PORT: Final = 10000
ADMIN_PORT: Final = 9901

_LOOK_S: Final = 0.2  # between two looks at the file of routes
_NO_ROUTES: Final = RoutesFile(Routes(), "none")


@contextmanager
def gateway(
    model: str,
    recipe: Recipe,
    replicas: Sequence[Replica],
    folder: Path,
    origins: Sequence[str] = (),
    routes: RoutesFile = _NO_ROUTES,
) -> Iterator[Gateway]:
    """Run a gateway on free loopback ports, with its logs in its folder, and wait until every replica is healthy."""
    settings = settings_for(model, recipe, folder, origins)
    prepare(settings, routes, tuple(replicas))
    with (folder / LOG).open("wb") as log, running(folder, settings.bootstrap(), log):
        found = Gateway(folder)
        found.wait_healthy(replicas)
        yield found


def settings_for(model: str, recipe: Recipe, folder: Path, origins: Sequence[str] = ()) -> Settings:
    """The settings of a gateway on free loopback ports."""
    return Settings(
        model=model,
        recipe=recipe,
        folder=folder,
        listen="127.0.0.1",
        port=0,
        admin_port=0,
        access_log=str(folder / "access.log"),
        origins=tuple(origins),
    )


def serve(settings: Settings, routes: Path, replicas: tuple[Replica, ...] = ()) -> None:
    """Run a gateway in the foreground until it ends or the program is interrupted.

    Args:
        settings: what does not change.
        routes: the file of routes, which may change.
        replicas: the servers, in place of those of the file.

    Raises:
        UserError: a port is taken, or Envoy ended.
    """
    check_ports({"gateway": settings.port}, "or pass PORT=<another>")
    check_ports({"Envoy's admin": settings.admin_port}, "which may be another gateway")
    file = read_routes(routes)
    servers = prepare(settings, file, replicas)
    with running(settings.folder, settings.bootstrap(), None) as process:
        url = f"http://{settings.listen}:{settings.port}/predictions/{settings.model}"
        done(f"Envoy answers at {url} for {len(servers)} replicas")
        admin = f"its own pages: http://127.0.0.1:{settings.admin_port}"
        step(f"{admin}; its configuration: {settings.folder / BOOTSTRAP}; Ctrl-C ends it")
        for replica, host in Gateway(settings.folder).hosts().items():
            state = "healthy" if host.healthy else "not healthy (yet); is it running, and its model READY?"
            step(f"{replica}: {state}")
        try:
            _follow(process, settings, routes, file)
        except (KeyboardInterrupt, SystemExit):  # a second one ends it at once
            step("answering what has arrived; then the gateway ends")
            Gateway(settings.folder).finish()
            raise
        if process.wait() != 0:
            raise UserError("Envoy ended by itself; its last messages are above")


def _follow(process: "subprocess.Popen[bytes]", settings: Settings, path: Path, last: RoutesFile) -> None:
    """Bring each change of the file of routes to Envoy, until Envoy ends. What is wrong changes nothing."""
    wrong = ""
    while process.poll() is None:
        time.sleep(_LOOK_S)
        try:
            file = read_routes(path)
            if file.digest != last.digest:
                last = file
                apply(settings, file)
                done(f"{path}: its routes are followed now")
            wrong = ""
        except UserError as error:
            if str(error) != wrong:
                warn(f"{error}; everything stays as it was")
                wrong = str(error)


def main(
    *,
    replicas: tuple[str, ...] = (),
    model: str | None = None,
    routes: Path = ROUTES_FILE,
    listen: str = "127.0.0.1",
    port: int = PORT,
    origins: tuple[str, ...] = (),
    folder: Path = GATEWAY_FOLDER,
    store: Path = STORE,
) -> None:
    """Run Envoy in front of several servers, until it is interrupted.

    Args:
        replicas: `<host>:<port>` of each server; without it, those of the file of routes.
        model: model that must be READY; without it, the one model that lies in the store.
        routes: file that says which versions answer; it may change while the gateway runs.
        listen: the address to listen on.
        port: the port to listen on.
        origins: web pages whose scripts may send requests, https://<host>[:<port>] of each; none without it.
        folder: folder for all that the gateway writes.
        store: folder of the archives.
    """
    name = model or model_in(store)
    settings = Settings(
        model=name,
        recipe=recipe_of(name, store),
        folder=folder,
        listen=listen,
        port=port,
        admin_port=ADMIN_PORT,
        access_log="/dev/stdout",
        origins=origins,
    )
    serve(settings, routes, tuple(parse_replicas(" ".join(replicas))))


def recipe_of(model: str, store: Path) -> Recipe:
    """The recipe of a model: that of `recipes/`, else that in an archive of the store.

    Raises:
        UserError: there is none.
    """
    path = Path("recipes", f"{model}.yaml")
    if path.exists():
        return read_recipe(path)
    for archive in archives_in(store):
        if read_archive_identity(archive).model.name == model:
            return read_archive_recipe(archive)
    raise UserError(
        f"MODEL={model}: there is neither {path} nor an archive of it in {store}; STORE= names another folder"
    )


def split(*, model: str, versions: tuple[str, ...], routes: Path = ROUTES_FILE, folder: Path = GATEWAY_FOLDER) -> None:
    """Divide the requests that name no version among versions of a model.

    Args:
        model: the model.
        versions: the weight of each version, such as 1.0=95 2.0=5.
        routes: the file that says so from now on.
        folder: folder of the gateway.
    """
    file = set_weights(routes, model, parse_weights(versions))
    found = Gateway(folder)
    if found.accepts():
        wait_applied(found, file)
        done(f"{model}: {', '.join(versions)}; the gateway follows")
    else:
        done(f"{model}: {', '.join(versions)}, in {routes}; no gateway is running")


def gateway_status(*, routes: Path = ROUTES_FILE, folder: Path = GATEWAY_FOLDER) -> None:
    """Show which versions get how much, what they have answered, and how the servers are.

    Args:
        routes: file that says which versions answer.
        folder: folder of the gateway.
    """
    found, file = Gateway(folder), read_routes(routes)
    groups = found.groups()
    if found.routes_digest() != file.digest:
        warn(f"the gateway does not follow {routes} as it is now; see what `make gateway` prints")
    lines = [["answers", "share", "in flight", "sent", "failed", "healthy replicas"]]
    for name, hosts in groups.items():
        ready = sum(host.healthy for host in hosts.values())
        counts = [str(sum(getattr(host, of) for host in hosts.values())) for of in ("active", "sent", "failed")]
        lines.append([_title(name), _share(file.routes, name), *counts, f"{ready} of {len(hosts)}"])
    show_table(lines)
    lines = [["replica", "in flight", "sent", "state"]]
    for replica, host in found.hosts().items():
        state = "draining" if host.draining else "healthy" if host.healthy else "not healthy"
        lines.append([str(replica), str(host.active), str(host.sent), state])
    show_table(lines)


def _title(cluster: str) -> str:
    if cluster == "replicas":
        return "default versions"
    shadow = cluster.startswith(SHADOW)
    name, _, version = cluster.removeprefix(SHADOW).rpartition("_")
    return f"{name} {version}" + (", nobody waits" if shadow else "")


def _share(routes: Routes, cluster: str) -> str:
    name, _, version = cluster.removeprefix(SHADOW).rpartition("_")
    of = routes.models.get(name)
    if of is None:
        return ""
    if cluster.startswith(SHADOW):
        return f"copies of {of.shadow.percent:g} %" if of.shadow else ""
    return f"{100 * of.versions.get(version, 0) / sum(of.versions.values()):.3g} %"


def drain(*, replica: str, folder: Path = GATEWAY_FOLDER) -> None:
    """Send no more requests to a server behind the gateway, and wait for its last answer.

    Args:
        replica: `<host>:<port>` of the server.
        folder: folder of the gateway.
    """
    Gateway(folder).drain(parse_replica(replica))
    done(f"{replica} has answered its last request")


def restore(*, replica: str, folder: Path = GATEWAY_FOLDER) -> None:
    """Send requests to a drained server again.

    Args:
        replica: `<host>:<port>` of the server.
        folder: folder of the gateway.
    """
    Gateway(folder).restore(parse_replica(replica))
    done(f"{replica} gets requests again")
