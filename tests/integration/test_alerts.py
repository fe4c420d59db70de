"""Every alert is fired for real, by the harm that it is about, in a Prometheus whose minutes are seconds.

`promtool` tests the rules with made-up series (tests/unit/monitoring/test_rules.py); this is what shows that the series
are there, and that they tell.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import requests
from classifier.baseline import Baseline
from PIL import Image

from monitoring.__main__ import running
from monitoring.dashboard import Prometheus
from monitoring.rules import Objectives, Rules
from scripts.archives.store import find_archive
from scripts.building.build import build
from scripts.building.options import Options
from scripts.exporter import beside
from scripts.exporter.exporter import exporting
from scripts.ports import free_port
from scripts.torchserve.config import read_config, with_free_ports
from scripts.torchserve.launch import Variables
from scripts.torchserve.server import METRICS, Server, serving, workers
from tests.certificates import self_signed
from tests.conftest import THIRD_MODEL, TINY_RECIPE
from tests.integration.conftest import CHECKOUT
from tests.integration.contract import TIMEOUT_S

pytestmark = pytest.mark.thorough

SCRAPE_S = 0.5
FIRES_S = 120.0
POLL_S = 0.2
CROWD = 120  # clients, more than the queue has room for
RED, BLUE = (230, 20, 20), (20, 20, 230)


def jpeg(colour: tuple[int, int, int] = RED) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (64, 48), colour).save(stream, "JPEG")
    return stream.getvalue()


@contextmanager
def observed(
    state: Path, *archives: Path, settings: Mapping[str, str] | None = None, exporter: bool = True
) -> Iterator[Server]:
    """A server with these archives, and its exporter."""
    config = with_free_ports(read_config(CHECKOUT / "config.properties"))
    config |= {"model_store": str(archives[0].parent)} | dict(settings or {})
    found = [find_archive(archive.name, archive.parent) for archive in archives]
    variables = Variables(metrics=state / METRICS)
    with ExitStack() as stack:
        server = stack.enter_context(serving(config, found, state, variables=variables))
        if exporter:  # in a process of its own, as `make serve` starts it: clients here do not slow it
            beside.start(server, state)
            stack.callback(beside.stop, state)
        yield server


@contextmanager
def prometheus(
    folder: Path, *servers: Server, minute_s: float = 1.0, objectives: Objectives | None = None
) -> Iterator[Prometheus]:
    """A Prometheus that asks the exporters of these servers."""
    targets = [str(server.addresses.exporter).removeprefix("http://") for server in servers]
    with ExitStack() as probing:
        port = free_port(probing)
    rules = Rules(objectives or Objectives(), minute_s)
    with (folder / "prometheus.log").open("wb") as log, running(targets, rules, folder, port, log, SCRAPE_S):
        yield Prometheus(f"http://127.0.0.1:{port}")


def firing(asked: Prometheus) -> set[str]:
    return {alert["name"] for alert in asked.alerts()}


def quiet(asked: Prometheus, scrapes: int = 10) -> None:
    """Wait until every exporter was asked that often; meanwhile nothing fires."""
    begin = time.monotonic()
    while min(asked.now("min(count_over_time(up[1h]))"), default=0) < scrapes:
        assert firing(asked) == set()
        assert time.monotonic() - begin < FIRES_S, f"not asked {scrapes} times within {FIRES_S:.0f} s"
        time.sleep(POLL_S)
    assert firing(asked) == set()


def fires(asked: Prometheus, *names: str) -> None:
    """Wait until these alerts fire, and say how long that took."""
    begin = time.monotonic()
    seen: dict[str, float] = {}
    while missing := set(names) - seen.keys():
        now = time.monotonic() - begin
        assert now < FIRES_S, f"{', '.join(missing)}: not within {FIRES_S:.0f} s; {firing(asked)} did"
        seen |= dict.fromkeys(firing(asked) & missing, now)
        time.sleep(POLL_S)
    if path := os.environ.get("ALERTS"):
        with Path(path).open("a") as table:
            table.writelines(f"{name} {seconds:.1f}\n" for name, seconds in seen.items())


@contextmanager
def asking(
    server: Server, model: str = "tiny", clients: int = 1, body: bytes = b"", pause_s: float = 0.0
) -> Iterator[None]:
    """Clients that ask all the time."""
    ended = threading.Event()
    url = f"{server.addresses.inference}/predictions/{model}"

    def ask() -> None:
        with requests.Session() as session:
            while not ended.wait(pause_s):
                with suppress(requests.ConnectionError):
                    session.post(url, data=body or jpeg(), timeout=TIMEOUT_S)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@contextmanager
def stopped(*processes: psutil.Process) -> Iterator[None]:
    """Processes that hang."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # TorchServe has ended it: it did not answer
                process.resume()


def replaced(server: Server, killed: set[int]) -> None:
    """Wait until TorchServe has READY workers again, none of which is one of those."""
    client, deadline = server.client(), time.monotonic() + FIRES_S
    while not (version := client.version("tiny", "1.0")).ready or killed & {*version.pids}:
        assert time.monotonic() < deadline, f"the workers are not replaced within {FIRES_S:.0f} s"
        time.sleep(POLL_S)


@pytest.fixture
def tiny_file(tiny_archive: Callable[..., Path]) -> Path:
    return tiny_archive()


def test_server_gone(tiny_file: Path, tmp_path: Path) -> None:
    with observed(tmp_path / "state", tiny_file, exporter=False) as server, prometheus(tmp_path, server) as asked:
        with exporting(server, tmp_path / "state"):
            quiet(asked)
        fires(asked, "ServerGone")


def test_no_ready_worker(tiny_file: Path, tmp_path: Path) -> None:
    with observed(tmp_path / "state", tiny_file) as server, prometheus(tmp_path, server) as asked:
        ended = threading.Event()

        def kill_all() -> None:
            while not ended.wait(0.1):
                for process in workers(server):
                    with suppress(psutil.NoSuchProcess):
                        process.kill()

        killing = threading.Thread(target=kill_all)
        killing.start()
        try:
            fires(asked, "NoReadyWorker")
        finally:
            ended.set()
            killing.join()


def test_workers_restart(tiny_file: Path, tmp_path: Path) -> None:
    with observed(tmp_path / "state", tiny_file) as server, prometheus(tmp_path, server, minute_s=6) as asked:
        quiet(asked)
        for _ in range(2):
            killed = {process.pid for process in workers(server)}
            for process in workers(server):
                process.kill()
            replaced(server, killed)
        fires(asked, "WorkersRestart")


def test_a_crowd_before_a_worker_that_hangs(tiny_file: Path, tmp_path: Path) -> None:
    names = ("QueueGrows", "ErrorBudgetBurns1h", "ErrorBudgetBurns6h", "ErrorBudgetBurns72h")
    with observed(tmp_path / "state", tiny_file) as server, prometheus(tmp_path, server) as asked, asking(server):
        quiet(asked, 16)
        with asking(server, clients=CROWD, pause_s=0.2), stopped(*workers(server)):
            fires(asked, *names)


def test_answers_slow(tiny_file: Path, tmp_path: Path) -> None:
    slow = Objectives(p99_s=0.2)
    with observed(tmp_path / "state", tiny_file) as server, prometheus(tmp_path, server, objectives=slow) as asked:
        ended = threading.Event()

        def stutter() -> None:
            while not ended.wait(0.05):
                with stopped(*workers(server)):
                    ended.wait(0.6)

        with asking(server, clients=4):
            quiet(asked)
            stuttering = threading.Thread(target=stutter)
            stuttering.start()
            try:
                fires(asked, "AnswersSlow")
            finally:
                ended.set()
                stuttering.join()


def test_memory_grows(tmp_path: Path) -> None:
    import torch
    from leaking_net import LeakingNet

    torch.save(LeakingNet().state_dict(), tmp_path / "leaking.pth")
    recipe, weights = THIRD_MODEL / "leaking.yaml", str(tmp_path / "leaking.pth")
    archive, _ = build(Options(recipe=recipe, weights=weights, store=tmp_path / "store"))
    with (
        observed(tmp_path / "state", archive) as server,
        prometheus(tmp_path, server, minute_s=0.2) as asked,
        asking(server, "leaking", pause_s=0.5),
    ):
        fires(asked, "MemoryGrows")


def test_version_skew(tiny_archive: Callable[..., Path], tmp_path: Path) -> None:
    versions = [tiny_archive("eager"), tiny_archive("torchscript")]
    with (
        observed(tmp_path / "a", *versions) as first,
        observed(tmp_path / "b", *versions) as second,
        prometheus(tmp_path, first, second, minute_s=0.3) as asked,
    ):
        quiet(asked, 24)
        second.client().set_default("tiny", "2.0")  # an update that reached one replica of two
        fires(asked, "VersionSkew")


def test_drift(tiny_weights: Path, tmp_path: Path) -> None:
    """It rises when the traffic changes, and not otherwise."""
    for path in TINY_RECIPE.parent.glob("*"):
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY_RECIPE.read_text() + "\nbaseline: tiny.baseline.json\n")
    plain, _ = build(Options(recipe=TINY_RECIPE, weights=str(tiny_weights), store=tmp_path / "plain"))
    red, blue = likeliest(plain, RED, BLUE)
    assert red != blue
    baseline = Baseline(pictures=1000, classes={red: 0.99, "other": 0.01}, bounds=[1.0], confidence=[1.0])
    (tmp_path / "tiny.baseline.json").write_bytes(msgspec.json.encode(baseline))
    archive, _ = build(Options(recipe=recipe, weights=str(tiny_weights), store=tmp_path / "store"))
    with observed(tmp_path / "state", archive) as server, prometheus(tmp_path, server, minute_s=0.3) as asked:
        with asking(server, clients=4, body=jpeg(RED)):
            quiet(asked, 90)  # more than two of its hours
            assert index(asked) < 0.1
        with asking(server, clients=4, body=jpeg(BLUE)):
            fires(asked, "Drift")
            assert index(asked) > 0.25


def likeliest(archive: Path, *colours: tuple[int, int, int]) -> list[str]:
    """The class of a picture of each colour, as the baseline has it."""
    from classifier.api import load

    with load(archive) as model:
        return [model(jpeg(colour))[0].full_name for colour in colours]


def index(asked: Prometheus) -> float:
    """The population stability index by class."""
    (found,) = asked.now('model_version_of:drift:psi_1h{of="class"}')
    return found


def test_token_expires(tiny_file: Path, tmp_path: Path) -> None:
    settings = {"disable_token_authorization": "false", "token_expiration_min": "5"}
    with observed(tmp_path / "state", tiny_file, settings=settings) as server, prometheus(tmp_path, server) as asked:
        fires(asked, "TokenExpires")
        keys: Mapping[str, Any] = json.loads((tmp_path / "state" / "key_file.json").read_text())
        until = datetime.fromisoformat(keys["inference"]["expiration time"])
        assert timedelta(0) < until - datetime.now(UTC) < timedelta(minutes=5)


def test_certificate_expires(tiny_file: Path, tmp_path: Path) -> None:
    files = {name: str(tmp_path / file) for name, file in self_signed(tmp_path, "127.0.0.1").items()}
    config = read_config(CHECKOUT / "config.properties")
    with ExitStack() as stack:
        addresses = {
            name: f"https://127.0.0.1:{free_port(stack)}"
            for name in config
            if name in ("inference_address", "management_address", "metrics_address")
        }
    with (
        observed(tmp_path / "state", tiny_file, settings=files | addresses) as server,
        prometheus(tmp_path, server) as asked,
    ):
        fires(asked, "CertificateExpires")
