import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.building.build import Options, parse_arguments

ROOT = Path(__file__).parents[2]
PHONY = re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
NEEDED = {
    "DATA": "pictures",
    "IMAGE": "x.png",
    "ARCHIVE": "x.mar",
    "VERSION": "1.0",
    "WORKERS": "1",
    "REPLICAS": "127.0.0.1:8080",
}

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def make() -> Make:
    """Run make as from a fresh shell, in the project, without setting anything up."""
    program = shutil.which("make")
    assert program is not None

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "--assume-old=.venv/.complete", *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_help_lists_every_target_that_a_person_may_call(make: Make) -> None:
    listed = re.findall(r"^  make (\S+) +\S", make("help").stdout, re.MULTILINE)
    assert sorted(listed) == sorted(set(PHONY) - {"always"})


def test_help_is_what_make_alone_says(make: Make) -> None:
    assert make().stdout == make("help").stdout


@pytest.mark.parametrize("target", PHONY)
def test_every_target_exists_and_calls_programs_that_exist(target: str, make: Make) -> None:
    result = make("--dry-run", target, *(f"{name}={value}" for name, value in NEEDED.items()))
    assert result.returncode == 0, result.stderr
    for module in re.findall(r"-m (scripts\.\w+)", result.stdout):
        assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize(
    ("target", "variable"),
    [
        ("predict", "IMAGE"),
        ("register", "ARCHIVE"),
        ("default", "VERSION"),
        ("unregister", "VERSION"),
        ("scale", "WORKERS"),
        ("gateway", "REPLICAS"),
        ("sign", "ARCHIVE"),
    ],
)
def test_a_missing_variable_is_one_clear_line(target: str, variable: str, make: Make) -> None:
    result = make("RUN=echo ran", target)
    assert result.returncode != 0
    assert re.fullmatch(rf".*\*\*\* {variable}=… is missing; see `make help`\.  Stop\.\n", result.stderr)
    assert "ran" not in result.stdout


@pytest.mark.parametrize("target", ["serve", "register"])
@pytest.mark.parametrize("key", ["my keys/public.pem", ""])
def test_a_public_key_reaches_the_program_also_when_it_is_empty(target: str, key: str, make: Make) -> None:
    words = command(make("--dry-run", target, "ARCHIVE=x.mar", f"PUBLIC_KEY={key}").stdout)
    assert words[words.index("--public-key") + 1] == key
    assert "--public-key" not in make("--dry-run", target, "ARCHIVE=x.mar").stdout


def test_an_unknown_model_is_one_clear_line(make: Make, tmp_path: Path) -> None:
    result = make("archive", "MODEL=nope", f"STORE={tmp_path}")
    assert result.returncode != 0
    assert re.fullmatch(r".*there is no recipe recipes/nope\.yaml; there are: .*vgg16\.yaml.*\n", result.stderr)
    assert list(tmp_path.glob("*.mar")) == []


def command(printed: str) -> list[str]:
    """The arguments of the one program that a dry run would call."""
    (line,) = [line for line in printed.replace("\\\n", "").splitlines() if "-m scripts." in line]
    words = shlex.split(line)
    return words[words.index("-m") + 2 :]


@pytest.mark.parametrize(("listing", "built"), [("true", 1), ("false", 0)], ids=["build", "list"])
def test_archives_ends_with_the_first_failure(make: Make, tmp_path: Path, listing: str, built: int) -> None:
    calls = tmp_path / "calls"
    program = tmp_path / "program"
    lines = ["#!/bin/sh", 'case "$*" in', f'*--list) echo "eager float32"; echo "openvino int8"; {listing};;']
    program.write_text("\n".join([*lines, f'*) echo "$*" >> {calls}; false;;', "esac", ""]))
    program.chmod(0o755)
    calls.touch()
    result = make(f"RUN={program}", "archives", "MODEL=efficientnet_lite0", f"STORE={tmp_path}")
    assert result.returncode == 2
    assert len(calls.read_text().splitlines()) == built


def test_the_variables_of_archive_reach_the_program(make: Make, tmp_path: Path) -> None:
    given = ("MODEL=vgg16", "RUNTIME=torchscript", "WEIGHTS=my file.pth", "VERSION=3.0", "TORCHSCRIPT=script")
    result = make(
        "--dry-run",
        "archive",
        *given,
        "GOLDEN=my pictures",
        "CALIBRATION=other pictures",
        "FORMAT=tgz",
        f"STORE={tmp_path}",
    )
    assert parse_arguments(command(result.stdout)) == Options(
        recipe=Path("recipes/vgg16.yaml"),
        runtime="torchscript",
        weights="my file.pth",
        version="3.0",
        archive_format="tgz",
        torchscript="script",
        golden=Path("my pictures"),
        calibration=Path("other pictures"),
        store=tmp_path,
    )


def test_without_variables_the_programs_own_defaults_hold(make: Make, tmp_path: Path) -> None:
    result = make("--dry-run", "archive", "RUNTIME=eager", f"STORE={tmp_path}")
    expected = Options(recipe=Path("recipes/vgg16.yaml"), store=tmp_path)
    assert parse_arguments(command(result.stdout)) == expected


@pytest.fixture
def build(make: Make, tmp_path: Path) -> Callable[..., list[str]]:
    """`make archive` with a stand-in for the program: the runtimes that it was called for."""
    (tmp_path / "recipes").mkdir()
    shutil.copy(ROOT / "recipes" / "vgg16.yaml", tmp_path / "recipes")
    for name in ("labels.json", "mine.pth"):
        (tmp_path / "recipes" / name).touch()

    def run(*arguments: str) -> list[str]:
        result = make(
            "archive", "RUN=echo ran", f"STORE={tmp_path / 'store'}", f"RECIPES={tmp_path / 'recipes'}", *arguments
        )
        assert result.returncode == 0, result.stderr
        return re.findall(r"^ran scripts\.building\.build .*--runtime (\S+)", result.stdout, re.MULTILINE)

    return run


def test_a_second_make_archive_does_nothing(build: Callable[..., list[str]]) -> None:
    assert build() == ["eager", "torchscript"]
    assert build() == []


@pytest.mark.parametrize(
    "setting", ["WEIGHTS=pretrained", "VERSION=9.0", "GOLDEN=x", "CALIBRATION=x", "TORCHSCRIPT=script"]
)
def test_another_setting_builds_again_and_the_same_does_not(setting: str, build: Callable[..., list[str]]) -> None:
    build()
    assert build(setting) == ["eager", "torchscript"]
    assert build(setting) == []


@pytest.mark.parametrize(
    ("setting", "archive"),
    [
        ("FORMAT=tgz", "vgg16-eager.tar.gz"),
        ("FORMAT=no-archive", "vgg16-eager"),
        ("PRECISION=int8", "vgg16-eager-int8.mar"),
    ],
)
def test_another_format_or_precision_is_another_file_beside_the_first(
    setting: str, archive: str, build: Callable[..., list[str]], tmp_path: Path
) -> None:
    build("RUNTIME=eager")
    assert build("RUNTIME=eager", setting) == ["eager"]
    assert build("RUNTIME=eager") == build("RUNTIME=eager", setting) == []
    assert (tmp_path / "store" / archive).exists()


@pytest.mark.parametrize("changed", ["vgg16.yaml", "labels.json", "mine.pth"])
def test_a_changed_recipe_label_file_or_file_of_weights_builds_again(
    changed: str, build: Callable[..., list[str]], tmp_path: Path
) -> None:
    weights = f"WEIGHTS={tmp_path / 'recipes' / 'mine.pth'}"
    build(weights)
    later = time.time() + 60
    os.utime(tmp_path / "recipes" / changed, (later, later))
    assert build(weights) == ["eager", "torchscript"]
