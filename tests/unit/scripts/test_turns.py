import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scripts.turns import turn

HOLDS = """
import sys
from pathlib import Path
from scripts.turns import turn

with turn(Path(sys.argv[1]), "nobody"):
    print("mine", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["folder", "file"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path if request.param == "folder" else tmp_path / ".model.lock"


def test_the_second_waits_for_the_first_and_says_for_whom(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, order = threading.Event(), []
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        waits.set()

    def second() -> None:
        with turn(path, "another build"):
            order.append("second")

    monkeypatch.setattr("scripts.turns.step", say)
    other = threading.Thread(target=second)
    with turn(path, "nobody"):
        other.start()
        assert waits.wait(30)
        order.append("first")
    other.join()
    assert order == ["first", "second"]
    assert said == ["waiting for another build"]


def test_the_turn_of_a_killed_process_ends_with_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("scripts.turns.step", said.append)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        holder.kill()
        holder.wait()
        with turn(path, "the killed"):
            assert said == []


def test_a_turn_leaves_a_folder_as_it_was(tmp_path: Path) -> None:
    for _ in range(2):
        with turn(tmp_path, "nobody"):
            assert list(tmp_path.iterdir()) == []
