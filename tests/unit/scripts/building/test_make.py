import os
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from classifier.digests import DIGESTS_FILE
from classifier.recipe import read_recipe

from scripts.archives.format import Format, archive_name
from scripts.building import make
from scripts.building.options import Options
from scripts.console import UserError
from tests.conftest import TINY_RECIPE

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
    """`make archive MODEL=tiny` with a stand-in for the build: the runtimes that it was called for."""
    built: list[str] = []
    numbers = iter(range(1000))

    def pretend(options: Options) -> int:
        built.append(options.runtime)
        name = archive_name("tiny", options.runtime, options.precision, options.archive_format)
        options.store.mkdir(exist_ok=True)
        if options.archive_format == "no-archive":
            (options.store / name).mkdir(exist_ok=True)
            (options.store / name / DIGESTS_FILE).write_text(str(next(numbers)))
        else:
            write(options.store / name, str(next(numbers)))
        return 0

    def run(**chosen: object) -> list[str]:
        built.clear()
        options = {"model": "tiny", "store": tmp_path / "store", "recipes": recipes} | chosen
        make.archive(**options)  # type: ignore[arg-type]
        return list(built)

    monkeypatch.setattr(make, "_build", pretend)
    return run


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
        assert build() == built


def write(archive: Path, digests: str) -> None:
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(DIGESTS_FILE, digests)


def test_a_second_build_does_nothing(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    assert build() == ["eager", "torchscript"]
    assert build() == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "setting", [{"weights": "pretrained"}, {"version": "9.0"}, {"torchscript": "script"}, {"golden": Path("x")}]
)
def test_another_setting_builds_again_and_the_same_does_not(setting: dict[str, object], build: Build) -> None:
    build()
    assert build(**setting) == ["eager", "torchscript"]
    assert build(**setting) == []


@pytest.mark.parametrize(
    ("archive_format", "precision", "archive"),
    [
        ("no-archive", "float32", "tiny-eager"),
        ("zip-store", "bfloat16", "tiny-eager-bfloat16.mar"),
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


@pytest.mark.parametrize("changed", ["tiny.yaml", "labels.json", "mine.pth"])
def test_a_changed_recipe_label_file_or_file_of_weights_builds_again(changed: str, build: Build, recipes: Path) -> None:
    weights = str(recipes / "mine.pth")
    build(weights=weights)
    with (recipes / changed).open("a") as file:
        file.write("\n")
    assert build(weights=weights) == ["eager", "torchscript"]


def test_a_date_says_nothing(build: Build, recipes: Path) -> None:
    build()
    later = time.time() + 60
    for path in recipes.iterdir():
        os.utime(path, (later, later))
    assert build() == []


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


def test_an_archive_that_was_replaced_is_built_again(build: Build, tmp_path: Path) -> None:
    build(runtime=("eager",))
    write(tmp_path / "store" / "tiny-eager.mar", "somebody else's")
    assert build(runtime=("eager",)) == ["eager"]


@pytest.mark.parametrize("damage", ["empty", "longer", "other byte"])
def test_a_damaged_archive_is_built_again(damage: str, build: Build, tmp_path: Path) -> None:
    build(runtime=("eager",))
    path = tmp_path / "store" / "tiny-eager.mar"
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "longer": content + b"x", "other byte": b"Q" + content[1:]}[damage])
    assert build(runtime=("eager",)) == ["eager"]
    assert build(runtime=("eager",)) == []


def test_a_record_that_cannot_be_read_builds_again(build: Build, tmp_path: Path) -> None:
    build(runtime=("eager",))
    record = tmp_path / "store" / ".tiny-eager.mar.inputs"
    record.write_bytes(b"\xff\xfe")
    assert build(runtime=("eager",)) == ["eager"]
    record.unlink()
    record.mkdir()
    with pytest.raises(IsADirectoryError, match=r"\.tiny-eager\.mar\.inputs"):
        build(runtime=("eager",))


def test_an_archive_can_be_named_by_its_file(build: Build, tmp_path: Path) -> None:
    assert build(file=tmp_path / "elsewhere" / "tiny-openvino-int8.mar") == ["openvino"]
    assert (tmp_path / "elsewhere" / "tiny-openvino-int8.mar").exists()
    with pytest.raises(UserError, match=r"no recipe of .* has an archive tiny-nope\.mar"):
        build(file=tmp_path / "tiny-nope.mar")


def test_an_unknown_model_is_one_clear_line(build: Build) -> None:
    with pytest.raises(UserError, match=r"there is no recipe .*nope\.yaml; there are: tiny\.yaml"):
        build(model="nope")


def test_the_first_failure_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recipes: Path) -> None:
    called: list[str] = []

    def fail(options: Options) -> int:
        called.append(options.runtime)
        return 1

    monkeypatch.setattr(make, "_build", fail)
    with pytest.raises(UserError, match=r"tiny-eager\.mar is not built"):
        make.archives(model="tiny", store=tmp_path / "store", recipes=recipes)
    assert called == ["eager"]


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
