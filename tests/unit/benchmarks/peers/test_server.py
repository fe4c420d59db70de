"""How the other servers are started and stopped; a few lines of Python stand in for one."""

import re
import sys
from pathlib import Path
from typing import Final, cast, get_args

import psutil
import pytest

from benchmarks.peers import PeerName, server
from benchmarks.peers.server import PEERS, Peer, require_peers, serving_peer
from scripts.console import UserError
from tests.unit.test_makefile import MAKEFILE, ROOT

X: Final = cast("PeerName", "x")
# Answers after a moment, from a process with a child that does not end by itself.
ANSWERS = """
import os, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
subprocess.Popen([sys.executable, "-c", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); input()"],
                 stdin=subprocess.PIPE)
class Handler(BaseHTTPRequestHandler):
    asked = 0
    def do_POST(self):
        Handler.asked += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        expected = b"a picture" in body and os.environ["BENCH_SUBJECT"] and os.environ["PYTHONPATH"]
        self.send_response(200 if expected and Handler.asked > 2 else 503)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program of a server named x, in an environment of its own."""
    program = tmp_path / "program.py"
    (tmp_path / "environments/x/bin").mkdir(parents=True)
    (tmp_path / "environments/x/bin/python").symlink_to(sys.executable)
    monkeypatch.setattr(server, "ENVIRONMENTS", tmp_path / "environments")
    monkeypatch.setattr(server, "_STOP_DEADLINE_S", 0.5)
    monkeypatch.setitem(PEERS, X, Peer(arguments=f"'{program}' {{port}}", path="/predict", field="picture"))
    return program


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that has ended may wait for the system to collect it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_server_is_asked_until_it_answers_and_leaves_nothing_behind(peer: Path, picture: Path) -> None:
    peer.write_text(ANSWERS)
    with serving_peer(X, picture.with_name("subject.json"), picture) as running:
        found = running.processes()
        assert len(found) == 2
        assert running.start_s > 0
        (folder,) = {process.environ()["TMPDIR"] for process in found}
        assert Path(folder).is_dir()
    assert not any(is_alive(process) for process in found)
    assert not Path(folder).exists()


def test_a_server_that_does_not_start_is_told_with_its_log(peer: Path, picture: Path) -> None:
    peer.write_text("raise SystemExit('no such model')")
    with (
        pytest.raises(UserError, match=r"(?s)x ended while starting; .*no such model"),
        serving_peer(X, picture.with_name("subject.json"), picture),
    ):
        pass


def test_a_server_that_is_not_installed_is_said_first(peer: Path) -> None:
    with pytest.raises(UserError, match="x is not installed; `make bench PEERS=x` does it"):
        require_peers([X])
    (server.ENVIRONMENTS / "x/.complete").touch()
    require_peers([X])


def test_make_installs_every_server_that_can_be_started() -> None:
    (known,) = re.findall(r"^KNOWN_PEERS := (.*)$", MAKEFILE, re.MULTILINE)
    assert known.split() == list(PEERS) == list(get_args(PeerName))
    groups = re.findall(r"^peer-(\w+) = ", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert sorted(groups) == sorted(PEERS)
    for name, peer in PEERS.items():
        assert (ROOT / f"benchmarks/peers/{name}.py").is_file()
        assert f"benchmarks.peers.{name}" in peer.arguments
