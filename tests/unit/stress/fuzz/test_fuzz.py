"""The fuzz targets run, see new branches, and leave what they find in a file."""

from pathlib import Path

import pytest

from scripts.console import UserError
from stress.fuzz.__main__ import TARGETS, Target, fuzz
from stress.questions import Body

pytestmark = pytest.mark.slow

SECONDS = 30  # of each target: a minute in all
QUICK_S = 5


@pytest.fixture(autouse=True)
def corpus_of_this_run(hostile: list[Body], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stress.fuzz.__main__.corpus", lambda: hostile)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_few_seconds_of_fuzzing_find_nothing(target: str, tmp_path: Path) -> None:
    outcome = fuzz(TARGETS[target], QUICK_S, tmp_path)
    assert outcome.executions > 0
    assert outcome.covered >= outcome.covered_first > 0


@pytest.mark.thorough
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_fuzzing_executes_reaches_new_branches_and_finds_nothing(target: str, tmp_path: Path) -> None:
    outcome = fuzz(TARGETS[target], SECONDS, tmp_path)
    assert outcome.executions > len(list((tmp_path / "corpus").iterdir())) / 2
    assert outcome.covered > outcome.covered_first > 0


def test_an_input_that_fails_is_left_in_a_file_and_the_error_says_how_to_run_it_again(tmp_path: Path) -> None:
    program = tmp_path / "broken_target.py"
    program.write_text(BROKEN)
    broken = Target("broken", [str(program)], lambda: {"seed": b"a"})
    with pytest.raises(UserError, match=r"ValueError: found.*make fuzz TARGET=broken INPUT=") as caught:
        fuzz(broken, 60, tmp_path / "out")
    (left,) = (tmp_path / "out").glob("crash-*")
    assert left.read_bytes().startswith(b"a")
    assert str(left) in str(caught.value)
    with pytest.raises(UserError, match="ValueError: found"):
        fuzz(broken, 60, tmp_path / "out", replay=left)


def test_what_the_caller_has_in_memory_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stress.fuzz.__main__._MOST_MEMORY_MB", 300)
    held = bytearray(b"1" * 600_000_000)
    program = tmp_path / "small_target.py"
    program.write_text(BROKEN.replace('b"a"', 'b"never this"'))
    assert fuzz(Target("small", [str(program)], lambda: {"seed": b"a"}), 2, tmp_path / "out").executions > 0
    assert len(held) == 600_000_000


BROKEN = """
import sys
import atheris

def once(data):
    if data.startswith(b"a"):
        raise ValueError("found")

atheris.Setup(sys.argv, once)
atheris.Fuzz()
"""
