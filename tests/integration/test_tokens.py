"""`make serve SECURE=1`: every command finds its token, and says what is wrong with one."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from scripts.building.golden import photograph
from scripts.torchserve.server import Server, find
from tests.integration.conftest import make
from tests.integration.contract import LITE0, TIMEOUT_S, post, torchserve

PICTURE = photograph("chelsea.png")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("secure") / "state"
    started = make("serve", f"MODELS={LITE0}", "SECURE=1", "PORTS=free", f"STATE={folder}")
    assert started.returncode == 0, started.stderr
    assert 'Authorization: Bearer $(make -s token)"' in started.stdout
    yield folder
    assert make("stop", f"STATE={folder}").returncode == 0


@pytest.fixture
def secure(state: Path) -> Server:
    server = find(state)
    assert server is not None
    return server


def tokens(state: Path) -> dict[str, dict[str, str]]:
    content: dict[str, dict[str, str]] = json.loads((state / "key_file.json").read_text())
    return content


COMMANDS = [
    ("predict", f"MODEL={LITE0}", f"IMAGE={PICTURE}"),
    ("predict", f"MODEL={LITE0}", f"IMAGE={PICTURE}", "GRPC=1"),
    ("status",),
    ("register", f"ARCHIVE=model_store/{LITE0}-torchscript-2.0.mar"),
    ("versions",),
    ("describe", f"MODEL={LITE0}"),
    ("default", f"MODEL={LITE0}", "VERSION=2.0"),
    ("default", f"MODEL={LITE0}", "VERSION=1.0"),
    ("scale", f"MODEL={LITE0}", "WORKERS=1"),
    ("unregister", f"MODEL={LITE0}", "VERSION=2.0"),
]


def test_every_command_takes_its_token_from_the_servers_file(state: Path) -> None:
    for command in COMMANDS:
        result = make(*command, f"STATE={state}")
        assert result.returncode == 0, result.stderr


def test_only_its_owner_can_read_the_file(state: Path) -> None:
    assert (state / "key_file.json").stat().st_mode & 0o777 == 0o600


def test_without_a_token_nobody_gets_anything_but_metrics(secure: Server) -> None:
    addresses = secure.addresses
    assert post(torchserve(secure), LITE0, PICTURE.read_bytes()).status_code == 400
    for url in (f"{addresses.inference}/ping", f"{addresses.management}/models"):
        assert requests.get(url, timeout=TIMEOUT_S).status_code == 400
    assert requests.get(f"{addresses.metrics}/metrics", timeout=TIMEOUT_S).status_code == 200


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        (COMMANDS[0], "INFERENCE_TOKEN"),
        (COMMANDS[1], "INFERENCE_TOKEN"),
        (("versions",), "MANAGEMENT_TOKEN"),
    ],
    ids=["REST", "gRPC", "management"],
)
def test_the_environments_token_comes_first_and_a_wrong_one_is_named(
    state: Path, command: tuple[str, ...], variable: str
) -> None:
    wrong = make(*command, f"STATE={state}", environment={variable: "wrong"})
    assert wrong.returncode != 0
    assert f"the server refuses the token of {variable}" in wrong.stderr
    right = tokens(state)["inference" if variable == "INFERENCE_TOKEN" else "management"]["key"]
    assert make(*command, f"STATE={state}", environment={variable: right}).returncode == 0


def test_a_new_token_replaces_the_old_one(state: Path, secure: Server, cat: bytes) -> None:
    old = printed(state)
    new = printed(state, "RENEW=1")
    assert new == printed(state) == tokens(state)["inference"]["key"]
    assert new != old
    statuses = [
        post(torchserve(secure), LITE0, cat, headers={"Authorization": f"Bearer {token}"}).status_code
        for token in (old, new)
    ]
    assert statuses == [400, 200]


def printed(state: Path, *arguments: str) -> str:
    result = make("-s", "token", f"STATE={state}", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_what_serve_shows_works_in_a_shell(state: Path, secure: Server) -> None:
    url = f"{secure.addresses.inference}/predictions/{LITE0}"
    command = f'curl -s {url} -T {PICTURE} -H "Authorization: Bearer $(make -s token STATE={state})"'
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=TIMEOUT_S, check=True)  # noqa: S607
    assert json.loads(result.stdout)["class"] == "n02124075 Egyptian cat"
