"""What Make does itself: it passes each variable of its command line on, as it is, and nothing of the environment."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.command_line.verbs import SECTIONS, VERBS

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = [target.name for _, found in SECTIONS for target in found]

# Environments that need not be made.
OLD = [f"--assume-old={folder}/.complete" for folder in (".triton", ".ship")] + ["--assume-old=.venv/.developing"]

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Run make as from a fresh shell, in the project, with a program that prints its arguments instead of working."""
    program = shutil.which("make")
    assert program is not None
    stand_in = tmp_path / "program"
    stand_in.write_text(f"#!{sys.executable} -IS\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    stand_in.chmod(0o755)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "--assume-old=.venv/.complete", *arguments, f"PROGRAM={stand_in}"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def passed_on(result: subprocess.CompletedProcess[str]) -> list[str]:
    """What the program was called with, besides the stand-in itself."""
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    words: list[str] = json.loads(line)
    return [word for word in words if not word.startswith("PROGRAM=")]


def test_every_verb_is_a_target_and_every_target_is_listed(make: Make) -> None:
    (verbs,) = re.findall(r"^VERBS := ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    assert sorted(verbs.replace("\\\n", " ").split()) == sorted(VERBS)
    own = " ".join(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)).replace("$(VERBS)", "").split()
    assert sorted([*own, *VERBS]) == sorted([*TARGETS, "always"])


def test_help_lists_every_target_that_a_person_may_call(make: Make) -> None:
    listed = re.findall(r"^  make (\S+) +\S", make("help").stdout, re.MULTILINE)
    assert listed == TARGETS
    assert make().stdout == make("help").stdout


@pytest.mark.parametrize("verb", VERBS)
def test_a_target_calls_the_verb_of_its_name(verb: str, make: Make) -> None:
    given = [f"--assume-old={folder}/.complete" for folder in (".triton", ".ship")]
    assert passed_on(make(*given, verb)) == ["make", verb]


@pytest.mark.parametrize(
    "value",
    [
        "O'Brien's cat $1.png",
        "a folder/with spaces",
        "two\nlines",
        '"',
        "`id` $(id) $$",
        "\\",
        "ä#;&|*?~",
        "$(shell id)",
    ],
)
def test_a_value_arrives_as_it_was_typed(value: str, make: Make) -> None:
    assert passed_on(make("predict", f"IMAGE={value}")) == ["make", "predict", f"IMAGE={value}"]


def test_a_store_with_spaces_and_quotes_is_one_folder(make: Make) -> None:
    given = ["STORE=my friend's store", "STATE=my state"]
    assert sorted(passed_on(make("status", *given))) == sorted(["make", "status", *given])


def test_a_variable_of_the_environment_does_not_count(make: Make) -> None:
    assert passed_on(make("predict", "IMAGE=x.png", VERSION="9.9", STATE="elsewhere")) == [
        "make",
        "predict",
        "IMAGE=x.png",
    ]


def test_an_empty_variable_arrives_too(make: Make) -> None:
    assert passed_on(make("serve", "PUBLIC_KEY=")) == ["make", "serve", "PUBLIC_KEY="]


def test_an_archive_is_a_file_too(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "store" / "vgg16-eager-1.0.mar"
    verb, *variables = passed_on(make(str(file), f"STORE={file.parent}", "WEIGHTS=mine.pth"))[1:]
    assert verb == "archive"
    assert sorted(variables) == [f"FILE={file}", f"STORE={file.parent}", "WEIGHTS=mine.pth"]


def test_pip_shows_its_progress_on_a_terminal_and_elsewhere_one_line_says_what_happens() -> None:
    planned = ["make", "--dry-run", "--always-make", "setup"]
    quiet, shown = (
        subprocess.run([*planned, f"MAKE_TERMOUT={out}"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for out in ("", "/dev/pts/1")
    )
    for said in (quiet, shown):
        assert "echo '· setting up .venv; the download is large, and takes minutes'" in said
    assert quiet.count("pip install --quiet") == quiet.count("pip install") > 0
    assert "--quiet" not in shown


@pytest.mark.parametrize("target", ["test", "test-all", "test-integration", "setup-system"])
def test_system_programs_are_installed_for_those_who_ask_for_tests_or_for_them(target: str, make: Make) -> None:
    assert "setup-system" in make("--dry-run", target, *OLD).stdout


@pytest.mark.parametrize("target", sorted({*TARGETS} - {"test", "test-all", "test-integration", "setup-system"}))
def test_no_other_target_installs_any(target: str, make: Make) -> None:
    result = make("--dry-run", "--always-make", target)
    assert "setup-system" not in re.sub(r"^cat .*$", "", result.stdout, flags=re.MULTILINE)


def test_a_server_to_compare_with_is_installed_when_it_is_named(make: Make) -> None:
    """A name that is none is for the program to refuse."""
    planned = make("--dry-run", "--always-make", "bench", "PEERS=mosec $(shell exit) nonsense").stdout
    assert re.findall(r"installing (\w+) in .peers/(\w+)", planned) == [("mosec", "mosec")]
    assert "installing" not in re.sub("installing what tests.*", "", make("--dry-run", "bench").stdout)


def test_clean_keeps_to_the_folders_that_it_was_given(make: Make) -> None:
    planned = make("--dry-run", "clean", "STORE=my store", "STATE=it's").stdout
    assert "'my store'" in planned
    assert "'it'\\''s'" in planned
