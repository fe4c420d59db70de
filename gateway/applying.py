"""Brings a file of routes to a running Envoy, without restart and without losing a request."""

import time
from collections.abc import Callable
from typing import Final

from gateway.configuration import Settings, check, read_clusters, write_clusters, write_routes
from gateway.endpoints import Gateway, Replica, parse_replica, read_endpoints, write_endpoints
from gateway.routes import RoutesFile
from scripts.console import UserError

_DEADLINE_S: Final = 30  # a new cluster is taken after its first health checks
_POLL_S: Final = 0.05


def prepare(settings: Settings, file: RoutesFile, replicas: tuple[Replica, ...] = ()) -> list[Replica]:
    """Write everything for an Envoy that is about to start.

    Args:
        settings: what does not change.
        file: the routes.
        replicas: the servers, in place of those of the file.

    Returns:
        The servers.

    Raises:
        UserError: there is no server, or Envoy refuses the routes.
    """
    found = list(replicas) or [parse_replica(word) for word in file.routes.replicas]
    if not found:
        raise UserError("pass REPLICAS='<host>:<port> …', or name `replicas` in the file of routes")
    settings.folder.mkdir(parents=True, exist_ok=True)
    write_endpoints(settings.folder, dict.fromkeys(found, False))
    check(settings, file.routes)
    write_clusters(settings.folder, settings.clusters(file.routes))
    write_routes(settings.folder, settings.routes(file.routes), file.digest)
    return found


def apply(settings: Settings, file: RoutesFile) -> None:
    """Have the running Envoy follow other routes.

    New clusters come before the routes that use them, and old ones go after. Replicas that drain go on draining.

    Raises:
        UserError: Envoy refuses the routes, and goes on with those it has; or it does not take them in time.
    """
    folder, gateway = settings.folder, Gateway(settings.folder)
    check(settings, file.routes)
    before = read_endpoints(folder)
    if file.routes.replicas:
        wanted = [parse_replica(word) for word in file.routes.replicas]
        if wanted != list(before):
            write_endpoints(folder, {replica: before.get(replica, False) for replica in wanted})
    clusters = {cluster["name"]: cluster for cluster in settings.clusters(file.routes)}
    old = read_clusters(folder)
    if old != clusters:
        write_clusters(folder, (old | clusters).values())
        _wait("clusters", lambda: clusters.keys() <= gateway.clusters())
    write_routes(folder, settings.routes(file.routes), file.digest)
    wait_applied(gateway, file)
    if old.keys() - clusters.keys():
        write_clusters(folder, clusters.values())


def wait_applied(gateway: Gateway, file: RoutesFile) -> None:
    """Wait until a running Envoy follows the routes.

    Raises:
        UserError: it does not do so in time.
    """
    _wait("routes", lambda: gateway.routes_digest() == file.digest)


def _wait(what: str, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not true():
        if time.monotonic() > deadline:
            raise UserError(f"Envoy has not taken the new {what} after {_DEADLINE_S} s; see what `make gateway` prints")
        time.sleep(_POLL_S)
