"""Runs Prometheus for the servers of this machine: `make monitor`."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from monitoring.rules import JOB, Objectives, Rules
from scripts.children import child, wait_started
from scripts.console import UserError, done, step
from scripts.ports import check_ports, is_listening
from scripts.torchserve.server import STATE_FOLDER, find

FOLDER: Final = Path(".monitoring")
PORT: Final = 9090
RULES: Final = "rules.yml"
_CONFIG, _LOG, _DATA = "prometheus.yml", "prometheus.log", "data"
_SCRAPE_S: Final = 5.0
_KEPT: Final = "15d"
_START_DEADLINE_S: Final = 60


def configuration(targets: Sequence[str], scrape_s: float = _SCRAPE_S) -> dict[str, Any]:
    """Prometheus' configuration.

    Args:
        targets: `<host>:<port>` of each exporter.
        scrape_s: the interval at which they are asked, and rules evaluated.
    """
    interval = f"{round(scrape_s * 1000)}ms"
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [RULES],
        "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": list(targets)}]}],
    }


def program() -> str:
    """Prometheus' program.

    Raises:
        UserError: it is not installed.
    """
    found = shutil.which("prometheus")
    if found is None:
        raise UserError("Prometheus is not installed; `make setup-system` does it, or put its program on the PATH")
    return found


@contextmanager
def running(
    targets: Sequence[str], rules: Rules, folder: Path, port: int, log: IO[bytes] | None, scrape_s: float = _SCRAPE_S
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Prometheus that answers, and end it at the end.

    Args:
        targets: `<host>:<port>` of each exporter.
        rules: its rules and alerts.
        folder: for its configuration and its data, which stay.
        port: the port on loopback.
        log: the file of its log; None for the terminal.
        scrape_s: the interval at which it asks.

    Raises:
        UserError: it is not installed, or does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # JSON is YAML, and Prometheus reads nothing else here
    (folder / RULES).write_text(json.dumps(rules.document(), indent=1))
    (folder / _CONFIG).write_text(json.dumps(configuration(targets, scrape_s), indent=1))
    address = f"127.0.0.1:{port}"
    command = [program(), f"--config.file={folder / _CONFIG}", f"--storage.tsdb.path={folder / _DATA}"]
    command += [f"--storage.tsdb.retention.time={_KEPT}", f"--web.listen-address={address}", "--log.level=warn"]
    with child(command, log) as process:
        wait_started(
            process, "Prometheus", partial(is_listening, f"http://{address}"), folder / _LOG, _START_DEADLINE_S
        )
        yield process


def exporter_of(state: Path) -> str:
    """`<host>:<port>` of the exporter of the server that runs from this state folder.

    Raises:
        UserError: there is none.
    """
    server = find(state)
    if server is None:
        raise UserError("no server is running; `make serve` starts one, or pass TARGETS=<host>:<port> of exporters")
    if server.addresses.exporter is None:
        raise UserError("the server has no exporter: set exporter_address in config.properties, and start it again")
    return urlsplit(server.addresses.exporter).netloc


def main(
    *,
    targets: tuple[str, ...] = (),
    port: int = PORT,
    p99: float = Objectives().p99_s,
    failures: float = Objectives().failures,
    folder: Path = FOLDER,
    state: Path = STATE_FOLDER,
) -> None:
    """Run Prometheus with the rules and alerts of this project, until it is interrupted.

    Args:
        targets: `<host>:<port>` of the exporters; that of the server of this machine without it.
        port: the port to listen on, on loopback.
        p99: seconds within which 99 of 100 answers should come; an alert tells when they do not.
        failures: share of requests that may fail by the service's own fault; alerts tell when it is used up too fast.
        folder: folder for all that Prometheus writes.
        state: state folder of the server.
    """
    check_ports({"Prometheus": port}, "or pass PORT=<another>")
    objectives = Objectives(failures=failures, p99_s=p99)
    asked = targets or (exporter_of(state),)
    with running(asked, Rules(objectives), folder, port, None) as process:
        done(f"Prometheus answers at http://127.0.0.1:{port}, and asks {', '.join(asked)}")
        step(f"alerts: http://127.0.0.1:{port}/alerts; rules: {folder / RULES}; Ctrl-C ends it")
        if process.wait() != 0:
            raise UserError("Prometheus ended by itself; its last messages are above")
