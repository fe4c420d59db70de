"""What needs no Triton: what is said when it cannot start, and what its answers become."""

import struct
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from edge.triton.server import Addresses, Client, _reason, _variables, serving
from scripts.console import UserError
from scripts.torchserve.failures import RequestFailedError
from tests.unit.conftest import StartServer


def handler(status: int, head: bytes, tensor: bytes = b"") -> type[BaseHTTPRequestHandler]:
    """Answers whatever is posted, as Triton does: JSON, then the bytes of a tensor."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            picture = self.rfile.read(int(self.headers["Content-Length"]))
            told = (self.path, self.headers["Inference-Header-Content-Length"], self.headers["X-Top-K"], picture)
            assert told == ("/v2/models/tiny/infer", "0", "2", b"a picture")
            self.send_response(status)
            self.send_header("Content-Length", str(len(head) + len(tensor)))
            self.send_header("Inference-Header-Content-Length", str(len(head)))
            self.end_headers()
            self.wfile.write(head + tensor)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def ask(address: str) -> dict[str, object]:
    with Client(Addresses(address.removeprefix("http://"), "", "")) as client:
        return client.predict(b"a picture", "tiny", top_k=2)


def test_the_answer_is_the_contracts_json(web_server: StartServer) -> None:
    content = b'{"class": "t04 star"}'
    head = b'{"model_name":"tiny","outputs":[{"name":"PREDICTIONS"}]}'
    address = web_server(handler(200, head, struct.pack("<I", len(content)) + content))
    assert ask(address) == {"class": "t04 star"}


def test_a_problem_is_found_behind_what_the_ensemble_writes_before_it(web_server: StartServer) -> None:
    error = rb'{"error":"in ensemble \'tiny\', {\"status\":415,\"code\":\"not_an_image\",\"detail\":\"no {picture}\"}"}'
    with pytest.raises(RequestFailedError, match=r"^no \{picture\} \(415 not_an_image\)$") as raised:
        ask(web_server(handler(400, error.replace(rb"\'", b"'"))))
    assert (raised.value.status, raised.value.code) == (415, "not_an_image")


@pytest.mark.parametrize("error", ["Request for unknown model: 'tiny' is not found", "a brace { and no problem"])
def test_tritons_own_errors_keep_its_words_and_status(web_server: StartServer, error: str) -> None:
    with pytest.raises(RequestFailedError, match=error) as raised:
        ask(web_server(handler(404, f'{{"error":"{error}"}}'.encode())))
    assert (raised.value.status, raised.value.code) == (404, "")


def test_without_a_repository_or_a_server_it_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`make triton` writes it"), serving(tmp_path / "none"):
        pass
    with pytest.raises(UserError, match="`make triton-serve` installs it"), serving(tmp_path, tmp_path / "none"):
        pass


def test_models_get_the_environments_python_and_nothing_of_this_processs_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/a/checkout")
    variables = _variables(tmp_path)
    assert variables["PATH"].startswith(f"{tmp_path}/bin:")
    assert "PYTHONPATH" not in variables


def test_the_reason_is_each_model_that_failed_or_else_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\nerror: a port is taken\n")
    assert "a port is taken" in _reason(log)
    failed = r"failed to load 'tiny_rank' version 100: Internal: BrokenArchiveError: 100: labels.json was changed"
    log.write_text(
        f'E1 model_lifecycle.cc:642] "{failed}\\n\\nAt:\\n  model.py(3)\\n"\nI1 "failed to load \'tiny_rank\'"\n'
    )
    assert _reason(log) == failed


def test_a_backend_that_this_triton_has_not_is_one_clear_line(tmp_path: Path) -> None:
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    installed = tmp_path / "environment" / "lib" / python / "site-packages" / "pytriton" / "tritonserver"
    (installed / "backends" / "python").mkdir(parents=True)
    (tmp_path / "repository" / "tiny_network").mkdir(parents=True)
    (tmp_path / "repository" / "tiny_network" / "config.pbtxt").write_text('name: "a"\nbackend: "onnxruntime"\n')
    with (
        pytest.raises(UserError, match=r"tiny_network is for the backend onnxruntime.*`make triton BACKEND=python`"),
        serving(tmp_path / "repository", tmp_path / "environment"),
    ):
        pass
