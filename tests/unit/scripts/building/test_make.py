import hashlib
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import yaml
from classifier.digests import DIGESTS_FILE, write_digests
from classifier.identity import IDENTITY_FILE, Identity, Model, write_identity
from classifier.recipe import read_recipe

from scripts.archives.format import Format
from scripts.building import make, release, targets
from scripts.building.gate import RefusedError
from scripts.building.options import Options
from scripts.building.weights import Weights
from scripts.console import UserError
from tests.conftest import TINY_RECIPE, path_of

Build = Callable[..., list[str]]


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A folder with the recipe of tiny, its labels, and the file of somebody's weights."""
    folder = tmp_path / "recipes"
    shutil.copytree(TINY_RECIPE.parent, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (folder / "mine.pth").write_bytes(b"weights")
    return folder


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recipes: Path) -> Build:
    """`make archive MODEL=tiny` with a stand-in for the export: the runtimes of the archives that were built."""
    built: list[str] = []
    numbers = iter(range(1000))

    def pretend(options: Options, weights: Weights, before: Callable[[Path], None]) -> tuple[Path, str]:
        built.append(options.runtime)
        path = path_of(options)
        options.store.mkdir(exist_ok=True)
        model = Model(name="tiny", version="1.0", runtime="eager", precision="float32", weights=weights.name)
        identity = Identity(model=model, weights_sha256=weights.sha256, serialized_file=str(next(numbers)))
        if options.archive_format == "no-archive":
            path.mkdir(exist_ok=True)
            write_identity(identity, path)
            (path / DIGESTS_FILE).unlink(missing_ok=True)
            write_digests(path)
        else:
            write(path, identity)
        before(path)
        return path, "a report"

    def run(**chosen: object) -> list[str]:
        built.clear()
        own = {"model": "tiny", "store": tmp_path / "store", "recipes": recipes, "state": tmp_path / "state"}
        targets.archive(**({"weights": str(recipes / "mine.pth")} | own | chosen))  # type: ignore[arg-type]
        return list(built)

    def in_this_process(options: Options, settings: str) -> int:
        release.release(options, settings)
        return 0

    monkeypatch.setattr(release, "build", pretend)
    monkeypatch.setattr(make, "_build", in_this_process)
    return run


def write(archive: Path, identity: Identity) -> None:
    content = msgspec.json.encode(identity)
    digests = {IDENTITY_FILE: hashlib.sha256(content).hexdigest()}
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(IDENTITY_FILE, content)
        packed.writestr(DIGESTS_FILE, json.dumps(digests))


def test_without_a_runtime_those_of_eager_and_torchscript_that_the_recipe_has_are_built(
    build: Build, recipes: Path
) -> None:
    content = yaml.safe_load((recipes / "tiny.yaml").read_text())
    assert build() == ["eager", "torchscript"]
    for there, built in (
        (["eager", "openvino"], ["eager"]),
        (["openvino", "onnxruntime"], ["openvino", "onnxruntime"]),
    ):
        archives = [item for item in content["archives"] if item["runtime"] in there and "precision" not in item]
        archives.sort(key=lambda item: there.index(item["runtime"]))
        (recipes / "tiny.yaml").write_text(yaml.safe_dump(content | {"archives": archives}))
        assert build(store=recipes / "".join(there)) == built


def test_a_second_build_does_nothing(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    assert build() == ["eager", "torchscript"]
    assert build() == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("archive_format", "precision", "archive"),
    [
        ("no-archive", "float32", "tiny-eager-1.0"),
        ("zip-store", "bfloat16", "tiny-eager-bfloat16-1.1.mar"),
    ],
)
def test_another_format_or_precision_is_another_file_beside_the_first(
    archive_format: Format, precision: str, archive: str, build: Build, tmp_path: Path
) -> None:
    other = {"format_": archive_format, "precision": precision}
    build(runtime=("eager",))
    assert build(runtime=("eager",), **other) == ["eager"]
    assert build(runtime=("eager",)) == build(runtime=("eager",), **other) == []
    assert (tmp_path / "store" / archive).exists()


def test_a_date_says_nothing(build: Build, recipes: Path) -> None:
    build()
    later = time.time() + 60
    for path in recipes.iterdir():
        os.utime(path, (later, later))
    assert build() == []


@pytest.mark.parametrize("by", ["copied with its date", "a link to an older file"])
def test_weights_of_the_same_name_and_date_are_others_by_content(by: str, build: Build, recipes: Path) -> None:
    weights, older = recipes / "mine.pth", recipes / "older.pth"
    assert build() == ["eager", "torchscript"]
    when = weights.stat().st_mtime - (60 if by.startswith("a link") else 0)
    older.write_bytes(weights.read_bytes() + b"another training")
    os.utime(older, (when, when))
    if by.startswith("a link"):
        weights.unlink()
        weights.symlink_to(older.name)
    else:
        shutil.copy2(older, weights)
    with pytest.raises(UserError, match=r"VERSION=next"):
        build()
    assert build(version="next") == ["eager", "torchscript"]


def test_a_copied_recipe_whose_name_is_still_the_others_is_refused(build: Build, recipes: Path, tmp_path: Path) -> None:
    build()
    before = {path: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    shutil.copy(recipes / "tiny.yaml", recipes / "mine.yaml")
    with pytest.raises(UserError, match=r"mine\.yaml: name: tiny is not the file's name; write `name: mine`"):
        build(model="mine")
    assert {path: path.read_bytes() for path in (tmp_path / "store").iterdir()} == before


def test_another_models_files_say_nothing(build: Build, recipes: Path) -> None:
    build()
    (recipes / "other.yaml").write_text("name: other")
    (recipes / "other.json").write_text("[]")
    assert build() == []


def test_changed_pictures_for_the_gate_build_again(build: Build, tmp_path: Path) -> None:
    golden = tmp_path / "golden"
    golden.mkdir()
    (golden / "a.png").write_bytes(b"one")
    assert build(golden=golden) == ["eager", "torchscript"]
    assert build(golden=golden) == []
    (golden / "a.png").write_bytes(b"another")
    assert build(golden=golden) == ["eager", "torchscript"]


@pytest.mark.parametrize("damage", ["empty", "longer", "other byte"])
def test_a_damaged_archive_is_built_again(damage: str, build: Build, tmp_path: Path) -> None:
    build(runtime=("eager",))
    path = tmp_path / "store" / "tiny-eager-1.0.mar"
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "longer": content + b"x", "other byte": b"Q" + content[1:]}[damage])
    assert build(runtime=("eager",)) == ["eager"]
    assert build(runtime=("eager",)) == []


def test_an_archive_can_be_named_by_its_file(build: Build, tmp_path: Path) -> None:
    assert build(file=tmp_path / "elsewhere" / "tiny-openvino-int8.mar") == ["openvino"]
    assert build(file=tmp_path / "elsewhere" / "tiny-openvino-int8-5.2.mar") == []
    assert build(file=tmp_path / "elsewhere" / "tiny-openvino-int8-6.0.mar") == ["openvino"]
    with pytest.raises(UserError, match=r"tiny-eager-1\.0\.mar is no name for VERSION=7"):
        build(file=tmp_path / "tiny-eager-1.0.mar", version="7")
    assert (tmp_path / "elsewhere" / "tiny-openvino-int8-5.2.mar").exists()
    with pytest.raises(UserError, match=r"no recipe of .* has an archive tiny-nope\.mar"):
        build(file=tmp_path / "tiny-nope.mar")


def test_an_unknown_model_is_one_clear_line(build: Build) -> None:
    with pytest.raises(
        UserError,
        match=r"no recipe .*nope\.yaml; there are: few\.yaml, helped\.yaml, leaking\.yaml, slow\.yaml, tiny\.yaml",
    ):
        build(model="nope")


def test_the_first_failure_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recipes: Path) -> None:
    called: list[str] = []

    def fail(options: Options, _: str) -> int:
        called.append(options.runtime)
        return 1

    monkeypatch.setattr(make, "_build", fail)
    with pytest.raises(UserError, match=r"tiny-eager-1\.0\.mar is not built"):
        targets.archives(model="tiny", store=tmp_path / "store", recipes=recipes)
    assert called == ["eager"]


def test_an_archive_that_differs_too_much_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recipes: Path
) -> None:
    called: list[str] = []

    def refuse(options: Options, _: str) -> int:
        called.append(options.runtime)
        return RefusedError.exit_code if options.runtime == "eager" else 0

    monkeypatch.setattr(make, "_build", refuse)
    with pytest.raises(UserError, match=r"^tiny-eager-1\.0\.mar is not built; see above\. Every other") as caught:
        targets.archive(model="tiny", runtime=("eager", "torchscript"), store=tmp_path / "store", recipes=recipes)
    assert called == ["eager", "torchscript"]
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("native", [True, False])
def test_what_the_processor_cannot_compute_is_not_in_the_list_and_that_is_said(
    native: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make, "computes", lambda precision: native or precision != "bfloat16")
    listed = [" ".join(item) for item in make.variants_here(read_recipe(TINY_RECIPE))]
    everything = [f"{item.runtime} {item.precision}" for item in read_recipe(TINY_RECIPE).archives]
    assert any("bfloat16" in line for line in everything)
    assert listed == [line for line in everything if native or "bfloat16" not in line]
    assert ("bfloat16" in capsys.readouterr().err) is not native
