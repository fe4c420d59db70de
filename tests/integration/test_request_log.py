"""Every request that a worker refuses is found by the id that its client got, with one command."""

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from mktestdocs.__main__ import grab_code_blocks

from scripts.archives.store import find_archive
from scripts.building.golden import photograph
from scripts.torchserve.config import read_config, with_free_ports
from scripts.torchserve.launch import Variables
from scripts.torchserve.server import Server, find, serving, stop, workers
from tests.integration.conftest import CHECKOUT, STORE, make
from tests.integration.contract import LITE0, TIMEOUT_S, torchserve

REFUSED = 50


class Logging(NamedTuple):
    """A server with two versions of a model and a log of their requests, and the folder that it runs from."""

    server: Server
    state: Path

    def ask(self, body: bytes, version: str = "1.0", **headers: str) -> requests.Response:
        address = f"{torchserve(self.server)}/predictions/{LITE0}/{version}"
        sent = {"Content-Type": "image/jpeg", **headers}
        return requests.post(address, data=body, headers=sent, timeout=TIMEOUT_S)


@pytest.fixture(scope="module")
def logging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logging]:
    state = tmp_path_factory.mktemp("logging")
    config = with_free_ports(read_config(CHECKOUT / "config.properties")) | {"model_store": str(STORE)}
    archives = [find_archive(name, STORE) for name in (f"{LITE0}-eager", f"{LITE0}-torchscript")]
    with serving(config, archives, state, variables=Variables(log="text")) as server:
        yield Logging(server, state)


def test_each_of_fifty_refused_requests_is_found_by_its_id(logging: Logging, cat: bytes) -> None:
    broken = photograph("rocket.jpg").read_bytes()[:3000]
    kinds = [(b"", 400, "empty_body"), (b"some text", 415, "not_an_image"), (broken, 422, "image_broken")]
    asked = [(*kinds[number % 3], ("1.0", "2.0")[number % 2]) for number in range(REFUSED)]
    with ThreadPoolExecutor(8) as pool:
        good = [pool.submit(logging.ask, cat) for _ in range(20)]
        answers = list(pool.map(lambda item: logging.ask(item[0], item[3]), asked))
    assert [future.result().status_code for future in good] == [200] * 20
    for answer, (body, status, code, version) in zip(answers, asked, strict=True):
        assert answer.status_code == status
        shown = make("logs", f"ID={answer.headers['x-request-id']}", f"STATE={logging.state}")
        assert shown.returncode == 0, shown.stderr
        (line,) = shown.stdout.splitlines()
        assert f" WARNING {status} {code} prediction {LITE0} {version} request=" in line
        assert f" bytes={len(body)} " in line


def test_a_client_finds_its_request_by_an_id_of_its_own(logging: Logging, cat: bytes) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = logging.ask(cat, **{"X-Request-ID": "order 17, picture 3", "traceparent": trace})
    (line,) = make("logs", "ID=order 17, picture 3", f"STATE={logging.state}").stdout.splitlines()
    assert f"INFO 200 prediction {LITE0} 1.0 request={answer.headers['x-request-id']}" in line
    assert f'traceparent="{trace}"' in line


def test_the_access_log_tells_which_version_answered_where_the_path_does_not(logging: Logging, cat: bytes) -> None:
    path = logging.state / "logs/access_log.log"
    before = len(path.read_text().splitlines())
    for default in ("2.0", "1.0"):
        logging.server.client().set_default(LITE0, default)
        address = f"{torchserve(logging.server)}/predictions/{LITE0}"
        assert requests.post(address, data=cat, timeout=TIMEOUT_S).ok
    unknown = requests.post(f"{torchserve(logging.server)}/predictions/none", data=cat, timeout=TIMEOUT_S)
    assert unknown.status_code == 404
    lines = [line for line in path.read_text().splitlines()[before:] if "POST /predictions" in line]
    by = [re.search(r" W-\d+-(\S+) - /127", line) for line in lines]
    assert [match[1] if match else None for match in by] == [f"{LITE0}_2.0", f"{LITE0}_1.0", None]


def test_every_request_of_a_killed_and_restarted_worker_has_one_line(logging: Logging, cat: bytes) -> None:
    client = logging.server.client()
    ids = []
    for _ in range(2):
        ids += [logging.ask(cat).headers["x-request-id"] for _ in range(5)]
        killed = workers(logging.server)
        for worker in killed:
            worker.kill()
            worker.wait(TIMEOUT_S)
        while len(workers(logging.server)) < len(killed):  # until then TorchServe may still call the dead ones READY
            time.sleep(0.1)
        client.wait_ready([(LITE0, "1.0"), (LITE0, "2.0")], TIMEOUT_S)
    text = "".join(path.read_text() for path in (logging.state / "logs").glob("requests.*.log"))
    assert Counter(re.findall(r"request=(\S+)", text)).keys() >= set(ids)
    assert all(text.count(f"request={name} ") == 1 for name in ids)
    assert len(list((logging.state / "logs").glob("requests.*.log"))) == 2  # a new worker goes on with its file


def test_serve_logs_requests_as_it_is_told(tmp_path: Path, cat: bytes) -> None:
    here = (f"STATE={tmp_path}", "PORTS=free")
    assert make("serve", f"MODELS={LITE0}", "LOG=json", *here).returncode == 0
    try:
        server = find(tmp_path)
        assert server is not None
        address = f"{torchserve(server)}/predictions/{LITE0}"
        answer = requests.post(address, data=cat, headers={"Content-Type": "image/png"}, timeout=TIMEOUT_S)
        shown = make("logs", f"ID={answer.headers['x-request-id']}", *here[:1])
        assert shown.stdout.startswith('{"time":"')
        assert '"status":200' in shown.stdout
    finally:
        assert stop(tmp_path)


def test_the_page_shows_how(logging: Logging, tmp_path: Path) -> None:
    (block,) = grab_code_blocks((CHECKOUT / "docs" / "logs.md").read_text(), lang="sh")
    here = block.replace("localhost:8080/predictions/vgg16", f"{torchserve(logging.server)}/predictions/{LITE0}")
    here = here.replace("headers.txt", f"{tmp_path}/headers.txt")
    here = here.replace("make logs", f"make logs STATE={logging.state}")
    variables = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL")}
    shown = subprocess.run(
        ["/bin/sh", "-ec", here], cwd=CHECKOUT, env=variables, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert re.match(
        rf"\S+Z WARNING 415 not_an_image prediction {LITE0} \S+ request=\S+ bytes=\d+ batch=1 compute=\S+ms$",
        shown.stdout,
    )
