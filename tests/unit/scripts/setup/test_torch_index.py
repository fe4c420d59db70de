"""Which index torch comes from: one without CUDA where there is no NVIDIA GPU, if it answers and has this version."""

import re
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from scripts.setup import torch_index
from scripts.setup.torch_index import choose, cpu_index, unusable, wanted
from tests.unit.conftest import StartServer
from tests.unit.scripts.test_packages import wheel

VERSION = "2.14.1"
LINK = '<a href="torch-{0}-py3-none-any.whl">torch-{0}-py3-none-any.whl</a><br>'


class Index(BaseHTTPRequestHandler):
    """A simple index with torch for processors, at two addresses: what pip wants of one."""

    folder: Path
    version = f"{VERSION}+cpu"

    def do_GET(self) -> None:
        """The page of torch, or one of its files."""
        if self.path == "/torch/":
            self.say(200, LINK.format(self.version).encode(), "text/html")
        elif (path := self.folder / Path(self.path.replace("%2B", "+")).name).is_file():
            self.say(200, path.read_bytes(), "application/octet-stream")
        else:
            self.say(404, b"", "text/plain")

    def say(self, status: int, body: bytes, kind: str) -> None:
        """Answer."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def index(folder: Path, version: str) -> type[Index]:
    """An index that has one wheel of torch, in that version."""
    folder.mkdir()
    wheel(folder, "torch", version)
    return type("OneWheel", (Index,), {"folder": folder, "version": version})


class Garbage(Index):
    """What a network's sign-in page might say."""

    def do_GET(self) -> None:
        """A page, whatever was asked."""
        self.say(200, b"\xff<h1>Please sign in</h1>", "text/html")


class Missing(Index):
    """No index at all."""

    def do_GET(self) -> None:
        """Not here."""
        self.say(404, b"", "text/plain")


class NoHttp(Index):
    """Something that speaks another language."""

    def handle(self) -> None:
        """Say what is no HTTP."""
        self.wfile.write(b"220 mail\r\n")


class Silent(Index):
    """Takes the request, and never answers."""

    def do_GET(self) -> None:
        """Wait for the client to go."""
        self.rfile.read(1)


class Slow(Index):
    """Promises much, and sends it byte by byte."""

    def do_GET(self) -> None:
        """One byte at a time."""
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        try:
            for _ in range(1000):
                self.wfile.write(b" ")
                time.sleep(0.02)
        except OSError:  # the client has had enough
            return


def test_the_projects_own_index_and_version_are_those_of_pyproject() -> None:
    assert cpu_index().startswith("https://")
    assert cpu_index().endswith("/cpu")
    assert wanted() == VERSION


def test_without_a_gpu_the_index_of_processors_is_taken_and_said(web_server: StartServer, tmp_path: Path) -> None:
    address = web_server(index(tmp_path / "cpu", f"{VERSION}+cpu"))
    assert unusable(address, VERSION) == unusable(f"{address}/", VERSION) == ""
    assert choose(None, address, VERSION, gpu=False) == (
        address,
        f"torch comes from {address}, without CUDA, because this machine has no NVIDIA GPU; "
        "TORCH_INDEX=<url> takes another",
    )


def test_with_a_gpu_torch_comes_with_cuda_and_no_index_is_asked(refusing_address: str) -> None:
    chosen, reason = choose(None, refusing_address, VERSION, gpu=True)
    assert chosen == ""
    assert "from PyPI, with CUDA, because this machine has an NVIDIA GPU" in reason


@pytest.mark.parametrize(
    ("given", "place"), [("https://mirror.example/cpu", "https://mirror.example/cpu"), ("", "PyPI")]
)
@pytest.mark.parametrize("gpu", [False, True])
def test_what_the_user_names_is_taken_whatever_the_machine_has(
    given: str, place: str, gpu: bool, refusing_address: str
) -> None:
    assert choose(given, refusing_address, VERSION, gpu) == (given, f"torch comes from {place}, as TORCH_INDEX says")


@pytest.mark.parametrize(
    ("server", "trouble"),
    [
        (Missing, r"cannot be reached \(HTTP Error 404: Not Found\)"),
        (Garbage, "has no torch 2.14.1 for processors"),
        (NoHttp, r"cannot be reached \(220 mail"),
        (Silent, r"cannot be reached \(timed out\)"),
        (Slow, r"cannot be reached \(it takes too long\)"),
    ],
)
def test_an_index_that_does_not_give_it_leaves_pypis_with_the_reason(
    server: type[Index], trouble: str, web_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_index, "TIMEOUT_S", 0.3)
    address, begin = web_server(server), time.monotonic()
    chosen, reason = choose(None, address, VERSION, gpu=False)
    assert chosen == ""
    assert time.monotonic() - begin < 3
    assert re.search(f"from PyPI, with CUDA, because {address} {trouble}", reason)


@pytest.mark.parametrize("version", [VERSION, "2.14.0+cpu", "2.14.10+cpu", "12.14.1+cpu", f"{VERSION}+cu130"])
def test_an_index_without_this_version_for_processors_will_not_do(
    version: str, web_server: StartServer, tmp_path: Path
) -> None:
    address = web_server(index(tmp_path / "other", version))
    assert unusable(address, VERSION) == "has no torch 2.14.1 for processors"


def test_where_nothing_listens_or_the_address_is_none_the_reason_is_said(refusing_address: str) -> None:
    assert "Connection refused" in unusable(refusing_address, VERSION)
    assert "unknown url type" in unusable("no-address", VERSION)


def test_the_program_prints_the_index_for_pip_and_the_reason_for_people() -> None:
    result = subprocess.run(
        [sys.executable, "scripts/setup/torch_index.py", "--index", "https://mirror.example/cpu"],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "https://mirror.example/cpu\n"
    assert result.stderr == "· torch comes from https://mirror.example/cpu, as TORCH_INDEX says\n"


@pytest.mark.slow
def test_pip_prefers_the_build_for_processors_to_pypis_of_the_same_version(
    web_server: StartServer, tmp_path: Path
) -> None:
    """As `make setup` calls it: `--extra-index-url`, and the version that pyproject.toml pins."""
    pypi, cpu = (web_server(index(tmp_path / kind, version)) for kind, version in versions().items())
    command = [sys.executable, "-m", "pip", "download", "--isolated", "--no-deps", "--no-cache-dir", "--quiet"]
    indexes = ["--index-url", pypi, "--extra-index-url", cpu, "--dest", str(tmp_path / "chosen")]
    result = subprocess.run(
        [*command, *indexes, f"torch=={VERSION}"], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert [path.name for path in (tmp_path / "chosen").iterdir()] == [f"torch-{VERSION}+cpu-py3-none-any.whl"]


def versions() -> dict[str, str]:
    """What PyPI has, and what the index of processors has."""
    return {"pypi": VERSION, "cpu": f"{VERSION}+cpu"}
