"""Real servers with real archives, each on free ports, in a process group and temp folder of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pytest
import requests
from filelock import FileLock

from scripts.archives.store import find_archive
from scripts.building.golden import photograph
from scripts.shipping.image import NAME, version, write_context
from scripts.torchserve.client import Client
from scripts.torchserve.config import read_config, with_free_ports
from scripts.torchserve.server import LOG_CONFIG, Server
from scripts.torchserve.server import serving as start_and_stop
from tests.conftest import TEMPORARY, THIRD_MODEL
from tests.integration.container import ARCHIVE, Podman
from tests.integration.contract import LITE0
from tests.integration.engine import Engine, lacking

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from scripts.building.overlay import Tuned

CHECKOUT = Path(__file__).parents[2]
STORE = CHECKOUT / "model_store"
# Photographs of an object that ImageNet has a class for: an Egyptian cat, an espresso, a missile, and a moped twice.
PHOTOGRAPHS = [
    photograph(name)
    for name in ("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "motorcycle_right.png")
]
BUILD_DEADLINE_S = 900

_OURS = (
    "ts.model_server",
    "org.pytorch.serve.ModelServer",
    "model_service_worker",
    "prometheus",
    "scripts.exporter",
    "scripts.command_line devserver",
    "chromium",
    "tritonserver",
    "triton_python_backend_stub",
    "envoy --config-path",
    "benchmarks.peers",
)


def make(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run make in the checkout, as a user does. Two tests that want the same archive build it once."""
    with FileLock(TEMPORARY / ".archives.lock") if arguments[0] == "archive" else nullcontext():
        return _make(arguments, environment or {})


def _make(arguments: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", *arguments],  # noqa: S607 - the user's own make
        cwd=CHECKOUT,
        env=variables | environment,
        capture_output=True,
        text=True,
        timeout=BUILD_DEADLINE_S,
        check=False,
    )


def serve_in_front(state: Path) -> list[str]:
    """The command of `make serve FOREGROUND=1`, on free ports, with EfficientNet-Lite0."""
    verb = [sys.executable, "-m", "scripts.command_line", "serve"]
    return [*verb, f"--state={state}", "--ports=free", "--foreground", f"--models={LITE0}"]


@contextmanager
def serving(
    state: Path, *archives: str, store: Path = STORE, log_config: Path | None = LOG_CONFIG, **settings: str
) -> Iterator[Server]:
    """A TorchServe with these archives, ready; stopped in the end."""
    config = with_free_ports(read_config(CHECKOUT / "config.properties"))
    config |= {"model_store": str(store)} | settings
    with start_and_stop(config, [find_archive(name, store) for name in archives], state, log_config) as server:
        yield server


def store_with(settings: Tuned, folder: Path) -> Path:
    """A model store in that folder with EfficientNet-Lite0's eager archive in other settings; nothing is exported."""
    from scripts.building.overlay import repack  # imports torch

    store = folder / "store"
    store.mkdir()
    repack(find_archive(f"{LITE0}-eager", STORE), settings, "1.0", store)
    return store


@pytest.fixture(scope="session", autouse=True)
def archives() -> None:
    """EfficientNet-Lite0's eager and TorchScript archives, which nearly all tests serve; built if they changed."""
    result = make("archive", f"MODEL={LITE0}", "FORCE=1")
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="session")
def vgg16_archives() -> None:
    """VGG16's eager and TorchScript archives, half a gigabyte each, for the tests that are about them."""
    result = make("archive", "MODEL=vgg16", "FORCE=1")
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="session")
def ship() -> Path:
    """Where the validators of what is shipped are, KServe's SDK among them; installed if they are not."""
    result = make(".ship/.complete")
    assert result.returncode == 0, result.stderr
    return CHECKOUT / ".ship" / "bin"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, vgg16_archives: None) -> Iterator[Server]:
    """A server with both models for tests that change nothing in it."""
    with serving(tmp_path_factory.mktemp("server"), "vgg16-eager", "efficientnet_lite0-eager") as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> Client:
    return Client(server.addresses)


@pytest.fixture(scope="session")
def devserver(archives: None) -> Iterator[str]:
    """The address of a Flask server with the eager EfficientNet-Lite0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "scripts.command_line", "devserver", f"--archive={LITE0}-eager", f"--port={port}"]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for_ping(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _wait_for_ping(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the Flask server ended by itself"
        try:
            if requests.get(f"{address}/ping", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise TimeoutError(f"no answer from {address}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser, Debian's chromium."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is missing; `make setup-system` says how to install it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Images and containers, gigabytes of them, removed in the end; `IMAGES=<folder>` keeps them for the next run."""
    if reason := lacking():
        pytest.skip(reason)
    if kept := os.environ.get("IMAGES"):
        yield Engine(Path(kept))
        return
    temporary = Engine(Path(tempfile.mkdtemp(prefix="image-", dir="/var/tmp")))
    yield temporary
    temporary.remove()


@pytest.fixture(scope="session")
def podman(engine: Engine) -> Podman:
    return engine.podman


@pytest.fixture(scope="session")
def helped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An eager archive of a model that needs a package beside its module, and one of PyPI."""
    import torch
    from helped_net import HelpedNet

    from scripts.building.build import build
    from scripts.building.options import Options

    folder = tmp_path_factory.mktemp("helped")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        torch.save(HelpedNet().state_dict(), folder / "helped.pth")
    weights = str(folder / "helped.pth")
    return build(Options(recipe=THIRD_MODEL / "helped.yaml", weights=weights, store=folder / "store", cache=folder))[0]


@pytest.fixture(scope="session")
def image(engine: Engine, helped: Path) -> str:
    """The image with two archives in it."""
    result = make("archive", f"MODEL={LITE0}", "RUNTIME=openvino", "PRECISION=int8")
    assert result.returncode == 0, result.stderr
    name, context = f"{NAME}:{version()}", engine.folder / "context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir(parents=True)
    write_context(context, [find_archive(ARCHIVE, STORE).path, helped])
    engine.build(name, context, f"--build-arg=VERSION={version()}", "--build-arg=REVISION=tested")
    return name


class Present(NamedTuple):
    """What servers leave behind when nobody stops them."""

    processes: set[str]
    ports: set[str]
    folders: set[str]


_BEFORE = pytest.StashKey[Present]()
_LEFT = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Load Schemathesis, whose import takes seconds that the unit tests need not spend."""
    config.pluginmanager.import_plugin("schemathesis.pytest.plugin")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remember what is there before the tests, in the process that starts those that run them."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        session.config.stash[_BEFORE] = _present()


@pytest.hookimpl(trylast=True)  # after the processes that ran the tests have ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    """After all tests: no process, listening port, temporary folder or shared memory that was not there before."""
    before = session.config.stash.get(_BEFORE, None)
    if before is None:
        return
    left = [sorted(now - then) for then, now in zip(before, _present(), strict=True)]
    if any(left):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.stash[_LEFT] = "; ".join(
            f"{what}: {items}" for what, items in zip(Present._fields, left, strict=True) if items
        )


@pytest.hookimpl(trylast=True)  # at the end of the report, where it is looked for
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left behind, which no single test is to blame for."""
    if left := config.stash.get(_LEFT, None):
        terminalreporter.section("left behind by the tests", red=True)
        terminalreporter.line(left)


def _present() -> Present:
    return Present(_processes(), _listening(), _temporary())


def _processes() -> set[str]:
    found = set()
    for process in psutil.process_iter(["pid", "cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        if any(name in command for name in _OURS):
            found.add(f"{process.info['pid']} {command[:200]}")
    return found


def _listening() -> set[str]:
    return {
        str(connection.laddr.port)
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }


def _temporary() -> set[str]:
    folders = (Path(tempfile.gettempdir()), Path("/dev/shm"))  # noqa: S108 - where Triton's Python backend puts its own
    return {str(path) for folder in folders for kind in ("torchserve", "triton") for path in folder.glob(f"{kind}-*")}
