"""The replicas behind a running Envoy: their list, the state that Envoy sees, and draining one of them."""

import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import requests
import yaml

from scripts.console import UserError
from scripts.ports import is_listening

ENDPOINTS: Final = "endpoints.yaml"  # in a gateway's folder; Envoy reads it again whenever it changes
ADMIN: Final = "admin"  # beside it, the address of Envoy's admin port
SHADOW: Final = "shadow_"  # the names of clusters whose answers nobody waits for begin so

_DRAIN_DEADLINE_S: Final = 130  # outlasts the recipes' response timeouts
_HEALTHY_DEADLINE_S: Final = 60
_TIMEOUT_S: Final = 10
_POLL_S: Final = 0.1
# A replica must be idle this many times in a row, because a request that Envoy held back may begin between two looks.
_QUIET_LOOKS: Final = 3


class Replica(NamedTuple):
    """Where a TorchServe answers predictions."""

    address: str  # IPv4
    port: int

    def __str__(self) -> str:
        """As Envoy writes it."""
        return f"{self.address}:{self.port}"


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A replica as Envoy sees it."""

    draining: bool
    healthy: bool  # it may get the next request
    active: int  # requests in flight
    sent: int  # all requests, and all connections that failed, since Envoy's start
    failed: int = 0  # of these requests, those that were answered with 5xx, or not at all

    def joined(self, other: "Host", *, counts: bool) -> "Host":
        """The same replica for two versions.

        Args:
            other: as the other version's.
            counts: whether the health of the other one does.
        """
        return Host(
            draining=self.draining or other.draining,
            healthy=self.healthy and (other.healthy or not counts),
            active=self.active + other.active,
            sent=self.sent + other.sent,
            failed=self.failed + other.failed,
        )


def parse_replicas(text: str) -> list[Replica]:
    """Parse `host:port host:port …`; raises as `parse_replica`."""
    return [parse_replica(word) for word in text.split()]


def parse_replica(word: str) -> Replica:
    """Parse `host:port`. A host name is looked up once, here, because Envoy's endpoints are addresses.

    Raises:
        UserError: the word is not of that form, or the host name is not known.
    """
    host, _, port = word.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"{word} is not a replica: pass REPLICAS='<host>:<port> …', such as REPLICAS=127.0.0.1:8080")
    try:
        return Replica(socket.gethostbyname(host), int(port))
    except OSError as error:
        raise UserError(f"the replica's host {host} cannot be resolved: {error.strerror}") from error


def write_endpoints(folder: Path, replicas: dict[Replica, bool]) -> None:
    """Write where the replicas are and whether each is draining. Envoy reads the file when it is moved into place."""
    endpoints = [
        {
            "endpoint": {"address": {"socket_address": {"address": replica.address, "port_value": replica.port}}},
            "health_status": "DRAINING" if draining else "HEALTHY",
        }
        for replica, draining in replicas.items()
    ]
    resource = {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": "replicas",
        "endpoints": [{"lb_endpoints": endpoints}],
    }
    written = folder / f".{ENDPOINTS}"
    written.write_text(yaml.safe_dump({"resources": [resource]}, sort_keys=False))
    written.replace(folder / ENDPOINTS)


def read_endpoints(folder: Path) -> dict[Replica, bool]:
    """The replicas, and whether each is draining.

    Raises:
        UserError: no gateway was started from that folder.
    """
    try:
        (resource,) = yaml.safe_load((folder / ENDPOINTS).read_text())["resources"]
    except FileNotFoundError as error:
        raise UserError(f"no gateway was started from {folder}; start one with `make gateway`") from error
    found = {}
    for entry in resource["endpoints"][0]["lb_endpoints"]:
        where = entry["endpoint"]["address"]["socket_address"]
        found[Replica(where["address"], where["port_value"])] = entry["health_status"] == "DRAINING"
    return found


class Gateway:
    """A running Envoy, found by its state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._session = requests.Session()
        self._session.trust_env = False  # Envoy's admin port is on this machine, never behind a proxy

    @property
    def address(self) -> str:
        """The URL for users."""
        (listener,) = self._admin("listeners")["listener_statuses"]
        where = listener["local_address"]["socket_address"]
        return f"http://{where['address']}:{where['port_value']}"

    def accepts(self) -> bool:
        """Whether Envoy accepts requests. It does so later than on its admin port, after a check of every replica."""
        try:
            where = (self.folder / ADMIN).read_text()
            return bool(where) and self._session.get(f"http://{where}/ready", timeout=_TIMEOUT_S).ok
        except (FileNotFoundError, requests.ConnectionError):
            return False

    def hosts(self) -> dict[Replica, Host]:
        """Every replica, with what it has in flight for all versions; it is healthy if it is for each of them."""
        found: dict[Replica, Host] = {}
        for cluster, hosts in sorted(self.groups().items(), key=lambda item: item[0].startswith(SHADOW)):
            for replica, host in hosts.items():
                other = found.get(replica)
                found[replica] = host if other is None else other.joined(host, counts=not cluster.startswith(SHADOW))
        return found

    def groups(self) -> dict[str, dict[Replica, Host]]:
        """Every replica of each cluster that Envoy has taken, by the cluster's name."""
        return {
            cluster["name"]: dict(_host(status) for status in cluster.get("host_statuses", ()))
            for cluster in self._admin("clusters")["cluster_statuses"]
        }

    def clusters(self) -> set[str]:
        """The names of the clusters that Envoy uses."""
        return set(self.groups())

    def routes_digest(self) -> str:
        """The digest of the routes that Envoy follows; empty if it has none yet."""
        found = self._admin("config_dump", resource="dynamic_route_configs").get("configs", ())
        return str(found[0].get("version_info", "")) if found else ""

    def retries(self) -> int:
        """How many requests Envoy has retried since its start."""
        stats = self._admin("stats", filter=r"^cluster\..*\.upstream_rq_retry$")["stats"]
        return sum(int(stat.get("value", 0)) for stat in stats)

    def drain(self, replica: Replica) -> None:
        """Send no more requests to a replica, and wait until it has answered the last one.

        Raises:
            UserError: the replica is not one of this gateway's, no other is healthy, or it does not finish in time.
        """
        others = [host for other, host in self.hosts().items() if other != replica and host.healthy]
        if not others:
            raise UserError(f"{replica} is the only healthy replica; without it every request would fail")
        self._set(replica, draining=True)
        deadline, quiet = time.monotonic() + _DRAIN_DEADLINE_S, 0
        while quiet < _QUIET_LOOKS:
            if time.monotonic() > deadline:
                raise UserError(f"{replica} still has requests in flight after {_DRAIN_DEADLINE_S} s")
            time.sleep(_POLL_S)
            host = self.hosts()[replica]
            quiet = quiet + 1 if host.draining and not host.active else 0

    def restore(self, replica: Replica) -> None:
        """Send requests to a replica again, and wait until Envoy finds it healthy.

        Raises:
            UserError: the replica is not one of this gateway's, or does not become healthy.
        """
        self._set(replica, draining=False)
        self.wait_healthy([replica])

    def finish(self) -> None:
        """Take no new connections, close those in use with their next answers, and wait for the last answer.

        Raises:
            UserError: requests are still in flight after the longest time that one may take.
        """
        address = self.address
        self._admin("healthcheck/fail", post=True)  # from now on answers close their connections
        self._admin("drain_listeners", post=True, graceful="")
        deadline, quiet = time.monotonic() + _DRAIN_DEADLINE_S, 0
        while quiet < _QUIET_LOOKS:
            if time.monotonic() > deadline:
                raise UserError(f"requests are still in flight after {_DRAIN_DEADLINE_S} s")
            time.sleep(_POLL_S)
            (active,) = self._admin("stats", filter=r"^http\.users\.downstream_rq_active$")["stats"]
            quiet = 0 if is_listening(address) or int(active.get("value", 0)) else quiet + 1

    def wait_healthy(self, replicas: Sequence[Replica]) -> None:
        """Wait until Envoy would send requests to all of these.

        Raises:
            UserError: Envoy does not do so in time.
        """
        deadline = time.monotonic() + _HEALTHY_DEADLINE_S
        while missing := [replica for replica in replicas if not self._is_healthy(replica)]:
            if time.monotonic() > deadline:
                names = ", ".join(map(str, missing))
                raise UserError(
                    f"{names}: not healthy after {_HEALTHY_DEADLINE_S} s; is its model READY? `make status`"
                )
            time.sleep(_POLL_S)

    def _is_healthy(self, replica: Replica) -> bool:
        host = self.hosts().get(replica)
        return host is not None and host.healthy

    def _set(self, replica: Replica, *, draining: bool) -> None:
        replicas = read_endpoints(self.folder)
        if replica not in replicas:
            raise UserError(f"{replica} is not one of the gateway's replicas: {', '.join(map(str, replicas))}")
        write_endpoints(self.folder, replicas | {replica: draining})

    def _admin(self, page: str, *, post: bool = False, **parameters: str) -> Any:
        try:
            where = (self.folder / ADMIN).read_text()
            answer = self._session.request(
                "POST" if post else "GET",
                f"http://{where}/{page}",
                params=parameters if post else {"format": "json"} | parameters,
                timeout=_TIMEOUT_S,
            )
        except (FileNotFoundError, requests.ConnectionError) as error:
            raise UserError("no gateway is running; start one with `make gateway`") from error
        answer.raise_for_status()
        return None if post else answer.json()


def _host(status: dict[str, Any]) -> tuple[Replica, Host]:
    """Read one entry of Envoy's list of hosts, which leaves out numbers that are 0 and states that are false."""
    where = status["address"]["socket_address"]
    stats = {stat["name"]: int(stat.get("value", 0)) for stat in status["stats"]}
    health = dict(status["health_status"])
    known = health.pop("eds_health_status", "UNKNOWN")
    return Replica(where["address"], where["port_value"]), Host(
        draining=known == "DRAINING",
        healthy=known == "HEALTHY" and not any(value is True for value in health.values()),
        active=stats["rq_active"],
        sent=stats["rq_total"] + stats["cx_connect_fail"],
        failed=stats["rq_error"],
    )
