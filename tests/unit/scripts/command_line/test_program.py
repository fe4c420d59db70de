import inspect
import re
import subprocess
import sys
from importlib import import_module

import pytest

from scripts.command_line.program import application
from scripts.command_line.reference import README, TARGETS, table, targets
from scripts.command_line.verbs import VERBS
from tests.unit.test_makefile import ROOT

WIDTH = 100  # columns of the help


def program(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.command_line", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_help_names_every_verb_and_fits_its_width() -> None:
    said = program("--help").stdout
    assert max(map(len, said.splitlines())) <= WIDTH
    for verb in VERBS:
        assert f" {verb} " in said


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_explains_every_option(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    application()([verb, "--help"], result_action="return_value")
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= WIDTH
    module, _, name = VERBS[verb].function.partition(":")
    function = getattr(import_module(module), name)
    documented = inspect.getdoc(function) or ""
    for parameter in inspect.signature(function).parameters:
        assert f"--{parameter.rstrip('_').replace('_', '-')}" in said
        assert f"    {parameter}: " in documented, parameter
    shown = re.sub(r"[\s│]", "", said)
    for place in re.findall(r"<[a-z ]+>", documented):  # Markdown takes one outside of code for a tag
        assert re.sub(r"\s", "", place) in shown, place


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("status", "--state=README.md"), "README.md/server.json: Not a directory"),
        (("status", f"--state={'x' * 300}"), "File name too long"),
        (("logs", "--lines=0"), "LINES=0: expected a number of lines from 1"),
        (("devserver", "--port=99999"), "PORT=99999: a port is a number from 1 to 65535"),
    ],
    ids=["below-a-file", "too-long", "no-lines", "no-port"],
)
def test_an_impossible_value_is_one_line_and_an_exit_code(words: tuple[str, ...], fault: str) -> None:
    result = program(*words)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.removesuffix("\n").endswith(fault)
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_users_mistake_is_one_line_and_an_exit_code() -> None:
    result = program("predict", "no such picture.png")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: no such picture.png: No such file or directory\n"


@pytest.mark.slow
def test_a_verb_that_there_is_not_is_refused_with_what_was_probably_meant() -> None:
    result = program("predct")
    assert result.returncode != 0
    assert 'Did you mean "predict"?' in result.stdout + result.stderr


def test_a_target_without_variables_is_the_makefiles() -> None:
    result = program("setup")
    assert result.returncode != 0
    assert "`make setup` is a target of the Makefile alone" in result.stdout + result.stderr


@pytest.mark.parametrize("words", [("make",), ("make", "predct", "IMAGE=x")])
def test_the_makefiles_own_entrance_is_no_verb_of_a_person(words: tuple[str, ...]) -> None:
    result = program(*words)
    assert result.returncode != 0
    assert "Unknown command" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.slow
def test_what_make_help_prints_is_up_to_date_and_fits_its_width() -> None:
    assert (ROOT / TARGETS).read_text() == targets(), "run `make reference`"
    assert max(map(len, targets().splitlines())) <= WIDTH


def test_the_readmes_table_is_up_to_date() -> None:
    assert table() in (ROOT / README).read_text(), "run `make reference`"
