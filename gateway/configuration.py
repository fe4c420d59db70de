"""The files that Envoy reads, made of the templates, the user's routes and the limits of the servers behind it."""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import Any, Final

import msgspec
import yaml
from classifier.problems import MEDIA_TYPE, EmptyBody
from classifier.recipe import Recipe
from classifier.service import PARAMETER_HEADERS

from gateway.envoy import envoy
from gateway.problems import BUSY, LATE, NO_REPLICA
from gateway.routes import Routes
from gateway.versions import BY, PIN, Group, groups, version_routes
from scripts.console import UserError
from scripts.torchserve.config import CONFIG_FILE, read_config
from scripts.torchserve.tokens import Tokens

CLUSTERS: Final = "clusters.yaml"  # in a gateway's folder; Envoy reads them again whenever they change
ROUTES: Final = "routes.yaml"

_TEMPLATES: Final = Path(__file__).with_name("templates")
_SPARE_S: Final = 30  # for the attempts at failing replicas before the one that succeeds
_BATCHES: Final = 2  # in a replica for each worker: one that it computes, and the next
_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")
_PREFLIGHT: Final = ("origin", "access-control-request-method")  # the headers by which a preflight is known
# Without pages that may ask, nothing is a preflight: a route that no request takes.
_NO_PREFLIGHT: Final = {"match": {"path": "/"}, "direct_response": {"status": 404}}
_PREFLIGHT_S: Final = "600"  # how long a browser need not ask again
TIMEOUT: Final = "x-timeout-ms"  # in a request: how long the client waits
_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while a gateway runs."""

    model: str  # that must be READY
    recipe: Recipe  # the model's: it says how long an answer may take, and how many requests fill a replica
    folder: Path  # the gateway's
    listen: str  # the IPv4 address for users
    port: int
    admin_port: int  # Envoy's own, on loopback; 0 for any free one
    access_log: str  # file
    origins: tuple[str, ...] = ()  # web pages whose scripts may send requests, each as `https://<host>[:<port>]`

    def bootstrap(self) -> str:
        """What Envoy is started with.

        Raises:
            UserError: an origin is none.
        """
        return self._filled("bootstrap")

    def clusters(self, routes: Routes) -> list[dict[str, Any]]:
        """The clusters for routes."""
        return [self._cluster(group) for group in groups(routes, self.model)]

    def routes(self, routes: Routes) -> dict[str, Any]:
        """The route configuration."""
        found: dict[str, Any] = yaml.safe_load(self._filled("routes"))
        all_of_them = found["virtual_hosts"][0]["routes"]
        first = next(index for index, route in enumerate(all_of_them) if route["match"] == {"prefix": "/predictions/"})
        all_of_them[first:first] = version_routes(routes, all_of_them[first]["route"])
        return found

    def _cluster(self, group: Group) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self._filled("cluster", name=group.name, asked=group.asked))
        options = found["typed_extension_protocol_options"][_OPTIONS]
        if group.filters:
            options["http_filters"] = group.filters
        if group.at_once is not None:  # nobody waits: what has no room is not sent, and the living are asked for health
            del found["health_checks"], found["outlier_detection"]
            limits = dict.fromkeys(("max_connections", "max_requests"), group.at_once) | {"max_pending_requests": 1}
            found["circuit_breakers"] = {"thresholds": [limits]}
        return found

    def _filled(self, template: str, **more: str) -> str:
        config = read_config(CONFIG_FILE)
        serving = self.recipe.serving
        workers = max(variant.serving.workers or serving.workers for variant in self.recipe.archives)
        token = Tokens(None).headers("inference").items()
        values = {
            "listen": self.listen,
            "port": self.port,
            "admin_port": self.admin_port,
            "access_log": self.access_log,
            "folder": self.folder.resolve(),
            "cors": json.dumps(_cors(self.origins)),
            "preflight": json.dumps(_preflight() if self.origins else _NO_PREFLIGHT),
            "token": json.dumps([{"header": {"key": name, "value": value}} for name, value in token]),
            "local_replies": json.dumps(_local_replies()),
            "times": json.dumps((_TEMPLATES / "times.lua").read_text()),
            "empty_body": EmptyBody.code.encode().hex(),
            "max_request_size": config["max_request_size"],
            "waiting": config["job_queue_size"],
            "in_flight": _BATCHES * serving.batch_size * workers,
            "try_timeout_s": serving.response_timeout_s,
            "timeout_s": serving.response_timeout_s + _SPARE_S,
        }
        return Template((_TEMPLATES / f"{template}.yaml").read_text()).substitute(values | more)


def _local_replies() -> list[dict[str, object]]:
    """The problems by Envoy's flags.

    UO: the queue is full. UT: the time is over. UH, NC, UF, UC, URX: there is no healthy replica, no such cluster, no
    connection, one was lost, or all retries failed.
    """
    return [
        {
            "filter": {"response_flag_filter": {"flags": flags}},
            "status_code": problem.status,
            "body_format_override": {
                "text_format_source": {"inline_string": msgspec.json.encode(problem).decode()},
                "content_type": MEDIA_TYPE,
            },
        }
        for flags, problem in (
            (["UO"], BUSY),
            (["UT"], LATE),
            (["UH", "NC", "UF", "UC", "URX"], NO_REPLICA),
        )
    ]


def _cors(origins: Sequence[str]) -> dict[str, object]:
    """Envoy's policy for the scripts of web pages.

    Raises:
        UserError: an origin is none.
    """
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise UserError(f"ORIGINS={origin}: expected https://<host>[:<port>], without a path and without *")
    policy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in origins],
        "allow_methods": "POST",
        "allow_headers": ",".join(("authorization", "content-type", TIMEOUT, PIN, *PARAMETER_HEADERS)),
        "expose_headers": ",".join(("x-request-id", "retry-after", PIN, BY)),
        "max_age": _PREFLIGHT_S,
        "forward_not_matching_preflights": False,
    }
    return {"envoy.filters.http.cors": policy} if origins else {}


def _preflight() -> dict[str, object]:
    """The route of exactly what Envoy's filter takes for a preflight; the filter does not look at direct responses."""
    named = [{"name": name, "string_match": {"safe_regex": {"regex": ".+"}}} for name in _PREFLIGHT]
    headers = [{"name": ":method", "string_match": {"exact": "OPTIONS"}}, *named]
    match = {"safe_regex": {"regex": "/(predictions|explanations)/.*|/predict"}, "headers": headers}
    return {"match": match, "route": {"cluster": "replicas"}}


def check(settings: Settings, routes: Routes) -> None:
    """Have Envoy itself check routes, which it would otherwise refuse while it runs, in its log alone.

    Raises:
        UserError: Envoy refuses them.
    """
    whole = yaml.safe_load(settings.bootstrap())
    del whole["dynamic_resources"]
    whole["static_resources"]["clusters"] = settings.clusters(routes)
    (listener,) = whole["static_resources"]["listeners"]
    http = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del http["rds"]
    http["route_config"] = settings.routes(routes)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=settings.folder) as file:  # it may have a token
        yaml.safe_dump(whole, file)
        file.flush()
        command = [str(envoy()), "--mode", "validate", "--config-path", file.name, "--log-level", "critical"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise UserError(f"Envoy refuses the routes: {result.stderr.strip()}")


def write_clusters(folder: Path, clusters: Iterable[dict[str, Any]]) -> None:
    """Write the clusters, for a running Envoy as well."""
    kind = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    _write(folder / CLUSTERS, [{"@type": kind} | cluster for cluster in clusters])


def read_clusters(folder: Path) -> dict[str, dict[str, Any]]:
    """The clusters that were written, by name; none if none were."""
    path = folder / CLUSTERS
    written = yaml.safe_load(path.read_text())["resources"] if path.exists() else []
    return {cluster["name"]: {name: value for name, value in cluster.items() if name != "@type"} for cluster in written}


def write_routes(folder: Path, routes: dict[str, Any], digest: str) -> None:
    """Write the route configuration, for a running Envoy as well, which calls it by the digest."""
    kind = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
    _write(folder / ROUTES, [{"@type": kind} | routes], digest)


def _write(path: Path, resources: list[dict[str, Any]], version: str = "") -> None:
    """Write resources in one step. Envoy reads the file when it is moved into place."""
    part = path.with_name(f".{path.name}")
    part.touch(0o600)  # health checks may have a token
    part.write_text(yaml.safe_dump({"version_info": version, "resources": resources}, sort_keys=False))
    part.replace(path)
