"""With nothing but what `make setup` installs, every verb explains itself, and installs nothing to do so."""

import importlib.metadata
import json
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.command_line.verbs import VERBS
from tests.unit.test_makefile import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
BASE = ("command", "build", "serve", "stubs")  # as in the Makefile's `pip install`

# Python does not find the modules that are its first argument, and refuses pip; help goes through all verbs.
PROGRAM = """
import contextlib, io, json, subprocess, sys, traceback

hidden, verbs = map(json.loads, sys.argv[1:])

class Base:
    finders = list(sys.meta_path)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            return None
        return next(filter(None, (finder.find_spec(name, path, target) for finder in self.finders)), None)

class WithoutPip(subprocess.Popen):
    def __init__(self, command, *arguments, **options):
        assert "pip" not in command, "help installs nothing"
        super().__init__(command, *arguments, **options)

sys.meta_path[:] = [Base()]
import scripts.command_line.program as program
subprocess.Popen = WithoutPip

found = {}
for verb in verbs:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            program._run([verb, "--help"])
        found[verb] = said.getvalue()
    except BaseException:
        found[verb] = traceback.format_exc()
print(json.dumps(found))
"""


def closure(lines: list[str]) -> set[str]:
    """The names of these packages and of all that they need, as far as they are installed."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in lines]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting += [
            other
            for other in map(Requirement, needed)
            if other.marker is None
            or any(other.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras))
        ]
    return found


@pytest.fixture(scope="module")
def base() -> set[str]:
    """What `make setup` installs."""
    groups = [PYPROJECT["dependency-groups"][name] for name in ("weights", "pictures")]
    lines = [*PYPROJECT["project"]["dependencies"], *(line for name in BASE for line in EXTRAS[name])]
    alone = {canonicalize_name(Requirement(line).name) for group in groups for line in group}
    return closure(lines) | alone | {"pip", "setuptools", PYPROJECT["project"]["name"]}


@pytest.fixture(scope="module")
def said(base: set[str]) -> dict[str, str]:
    """What each verb's help prints, in a Python that imports nothing but the base."""
    hidden = [
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not base & {canonicalize_name(owner) for owner in owners}
    ]
    assert {"onnx", "onnxruntime", "openvino", "ncnn", "flask", "captum", "matplotlib", "optuna", "pytest"} <= set(
        hidden
    )
    command = [sys.executable, "-c", PROGRAM, json.dumps(hidden), json.dumps(list(VERBS))]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found: dict[str, str] = json.loads(result.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_needs_the_base_only(verb: str, said: dict[str, str]) -> None:
    assert said[verb].startswith(f"Usage: image-classifier {verb}"), said[verb]


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_needs_extras_that_there_are_and_that_set_up_does_not_install(verb: str) -> None:
    assert set(VERBS[verb].needs) <= EXTRAS.keys() - {*BASE, "dev"}


def test_set_up_installs_the_base() -> None:
    assert f"'.[{','.join(BASE)}]'" in (ROOT / "Makefile").read_text()


def test_the_start_of_a_server_waits_for_no_library_that_only_workers_use() -> None:
    code = "import sys, scripts.serving.serve; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "torch", "prometheus_client", "opentelemetry", "requests", "cryptography"} & {*loaded}


def test_every_extra_is_the_bases_some_verbs_some_runtimes_some_options_or_some_architectures() -> None:
    of_verbs = {extra for verb in VERBS.values() for extra in verb.needs}
    of_archives = {
        "onnxruntime",
        "openvino",
        "ncnn",
        "export-onnx",
        "export-openvino",
        "export-ncnn",
        "timm",
        "transformers",
    }
    of_options = {"traces"}  # `make serve TRACES=`
    assert of_verbs | of_archives | of_options | {*BASE} == EXTRAS.keys() - {"dev"}


def test_development_installs_every_extra() -> None:
    (everything,) = [Requirement(line) for line in EXTRAS["dev"] if line.startswith(PYPROJECT["project"]["name"])]
    assert everything.extras == EXTRAS.keys() - {"dev"}
