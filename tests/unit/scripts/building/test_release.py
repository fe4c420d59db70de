"""A version is immutable: what may be built again in its place, and what not."""

import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from classifier.identity import UNTRAINED
from classifier.recipe import read_recipe
from msgspec.structs import replace

from scripts.archives.name import ArchiveName
from scripts.archives.store import read_archive_identity
from scripts.building import inputs, make, release, weights
from scripts.building.download import DownloadError
from scripts.building.options import Options
from scripts.building.record import read_record, record_of
from scripts.building.release import next_version
from scripts.console import UserError
from scripts.torchserve.config import write_config
from scripts.torchserve.server import SNAPSHOTS
from tests.conftest import TINY_RECIPE
from tests.unit.scripts.building.test_make import Build, build, recipes, write

__all__ = ["build", "recipes"]  # fixtures

EAGER = {"runtime": ("eager",)}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def archive(build: Build, store: Path) -> Path:
    """Version 1.0 of tiny's eager archive."""
    assert build(**EAGER) == ["eager"]
    return store / "tiny-eager-1.0.mar"


def retrained(recipes: Path) -> str:
    path = recipes / "retrained.pth"
    path.write_bytes(b"other weights")
    return str(path)


def in_snapshot(archive: Path, state: Path) -> None:
    """The last server of a state folder had this archive."""
    (state / SNAPSHOTS).mkdir(parents=True, exist_ok=True)
    write_config({"model_store": str(archive.parent.resolve())}, state / "config.properties")
    models = {"models": {"tiny": {"1.0": {"marName": archive.name}}}}
    write_config({"model_snapshot": msgspec.json.encode(models).decode()}, state / SNAPSHOTS / "1.cfg")


def test_other_weights_under_a_version_that_exists_are_refused_with_the_ways_on(
    archive: Path, build: Build, recipes: Path
) -> None:
    before = archive.read_bytes()
    with pytest.raises(UserError) as refused:
        build(weights=retrained(recipes), **EAGER)
    said = str(refused.value)
    assert "What differs: weights (was " in said
    assert "VERSION=1.0.1, or with VERSION=next" in said
    assert "FORCE=1 replaces it" in said
    assert archive.read_bytes() == before


@pytest.mark.parametrize(
    ("file", "old", "new", "name"),
    [
        ("tiny.yaml", "crop: 32", "crop: 30", "recipe"),
        ("labels.json", "circle", "disc", "labels"),
        ("tiny.yaml", "architecture: tiny_net", "architecture: vgg16", "architecture"),
    ],
)
def test_what_decides_answers_is_named_when_it_differs(
    file: str, old: str, new: str, name: str, archive: Path, build: Build, recipes: Path
) -> None:
    text = (recipes / file).read_text()
    assert old in text
    (recipes / file).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=rf"differs: {name} \("):
        build(**EAGER)
    assert build(force=True, **EAGER) == ["eager"]


def test_another_way_of_export_is_another_content_only_for_its_runtime(build: Build) -> None:
    build()
    assert build(torchscript="script", **EAGER) == []
    with pytest.raises(UserError, match=r"differs: export"):
        build(torchscript="script", runtime=("torchscript",))


def test_the_pictures_that_int8_is_calibrated_on_decide_answers_those_of_the_gate_do_not(
    build: Build, tmp_path: Path
) -> None:
    int8 = {"runtime": ("openvino",), "precision": "int8"}
    build(**EAGER)
    build(**int8)
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "a.png").write_bytes(b"a picture")
    assert build(golden=tmp_path / "golden", **EAGER) == ["eager"]
    assert build(golden=tmp_path / "golden", **EAGER) == []
    with pytest.raises(UserError, match=r"differs: export \(.*; gate"):
        build(golden=tmp_path / "golden", **int8)


def changed_code(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    path = folder / "newer.py"
    path.write_text("a change of this project")
    for module in (inputs, make):
        monkeypatch.setattr(module, "code", lambda: [path])


def test_another_serving_or_newer_code_builds_the_version_again_where_no_server_has_it(
    archive: Path, build: Build, recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipes / "tiny.yaml"
    recipe.write_text(recipe.read_text().replace("workers: 2", "workers: 1"))
    assert build(**EAGER) == ["eager"]
    changed_code(monkeypatch, tmp_path)
    assert build(**EAGER) == ["eager"]
    assert build(**EAGER) == []


def test_what_a_server_has_is_never_replaced(
    archive: Path, build: Build, recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_snapshot(archive, tmp_path / "state")
    assert build(**EAGER) == []
    for force in (False, True):
        with pytest.raises(UserError, match=r"FORCE=1 does not replace it: the server of .*state has it"):
            build(weights=retrained(recipes), force=force, **EAGER)
    changed_code(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"differs: code"):
        build(force=True, **EAGER)
    archive.unlink()
    with pytest.raises(UserError, match=r"differs: weights"):  # the next start of the server would find other answers
        build(weights=retrained(recipes), **EAGER)
    assert build(weights=retrained(recipes), state=tmp_path / "another", **EAGER) == ["eager"]


def test_a_damaged_file_of_a_server_is_built_again_because_the_bytes_become_what_they_were(
    archive: Path, build: Build, tmp_path: Path
) -> None:
    in_snapshot(archive, tmp_path / "state")
    archive.write_bytes(archive.read_bytes()[:50])
    assert build(**EAGER) == ["eager"]


def test_force_replaces_a_version_that_no_server_has(archive: Path, build: Build, recipes: Path) -> None:
    assert build(weights=retrained(recipes), force=True, **EAGER) == ["eager"]
    assert read_archive_identity(archive).model.weights == "retrained"
    assert build(weights=retrained(recipes), **EAGER) == []


def foreign(archive: Path) -> None:
    write(archive, replace(read_archive_identity(archive), serialized_file="of somebody else"))


def without_record(archive: Path) -> None:
    record_of(archive).unlink()


def broken_record(archive: Path) -> None:
    record_of(archive).write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("change", [foreign, without_record, broken_record])
def test_a_file_that_was_not_built_here_is_not_replaced_in_silence(
    change: Callable[[Path], None], archive: Path, build: Build
) -> None:
    change(archive)
    with pytest.raises(UserError, match="no record of how this file was built"):
        build(**EAGER)
    assert build(force=True, **EAGER) == ["eager"]
    assert build(**EAGER) == []


def test_a_recipe_may_be_in_utf_16(build: Build, recipes: Path) -> None:
    text = (recipes / "tiny.yaml").read_text()
    (recipes / "tiny.yaml").write_bytes(text.encode("utf-16"))
    assert build(**EAGER) == ["eager"]


def test_a_record_that_cannot_be_written_is_an_error(archive: Path, build: Build) -> None:
    record_of(archive).unlink()
    record_of(archive).mkdir()
    with pytest.raises(IsADirectoryError, match=r"\.tiny-eager-1\.0\.mar\.inputs"):
        build(force=True, **EAGER)


def test_a_build_that_is_killed_once_its_archive_is_in_place_leaves_a_known_one(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = vars(release)["build"]

    def killed(*arguments: Any) -> None:
        whole(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(release, "build", killed)
    with pytest.raises(KeyboardInterrupt):
        build(**EAGER)
    monkeypatch.setattr(release, "build", whole)
    assert build(**EAGER) == []


def test_a_build_that_is_killed_before_that_leaves_the_record_of_the_old_archive(
    archive: Path, build: Build, monkeypatch: pytest.MonkeyPatch, recipes: Path
) -> None:
    before, whole = archive.read_bytes(), vars(release)["build"]

    def killed(*arguments: Any) -> None:
        whole(*arguments)
        archive.write_bytes(before)
        raise KeyboardInterrupt

    monkeypatch.setattr(release, "build", killed)
    with pytest.raises(KeyboardInterrupt):
        build(weights=retrained(recipes), force=True, **EAGER)
    monkeypatch.setattr(release, "build", whole)
    assert build(**EAGER) == []


def test_of_two_builds_at_once_each_gets_a_version_of_its_own(
    archive: Path, build: Build, monkeypatch: pytest.MonkeyPatch, recipes: Path, store: Path
) -> None:
    other = threading.Thread(target=lambda: build(weights=retrained(recipes), version="next", **EAGER))
    waits, whole = threading.Event(), vars(release)["build"]

    def first(*arguments: Any) -> Any:
        monkeypatch.setattr(release, "build", whole)
        other.start()
        while other.is_alive() and not waits.wait(0.01):  # until it waits, or has come to its end
            pass
        return whole(*arguments)

    monkeypatch.setattr(release, "build", first)
    monkeypatch.setattr("scripts.turns.step", lambda text: waits.set() if "waiting" in text else None)
    (recipes / "third.pth").write_bytes(b"third weights")
    build(weights=str(recipes / "third.pth"), version="next", **EAGER)
    other.join()
    names = {path.name: read_archive_identity(path).model.weights for path in store.glob("*.mar")}
    assert names == {archive.name: "mine", "tiny-eager-1.0.1.mar": "third", "tiny-eager-1.0.2.mar": "retrained"}


def test_the_same_weights_in_another_place_are_the_same_version(archive: Path, build: Build, recipes: Path) -> None:
    moved = shutil.copy(recipes / "mine.pth", recipes / "moved.pth")
    assert build(weights=str(moved), **EAGER) == []
    record = read_record(archive)
    assert record is not None
    assert record.weights == str(moved)


def test_next_gives_every_variant_its_own_version_and_once_only(build: Build, recipes: Path, store: Path) -> None:
    variants = {"runtime": ("eager", "torchscript", "openvino")}
    build(**variants)
    build(precision="float16", **EAGER)
    assert build(version="next", **variants) == []
    anew = {"version": "next", "weights": retrained(recipes)}
    assert build(**anew, **variants) == ["eager", "torchscript", "openvino"]
    assert build(precision="float16", **anew, **EAGER) == ["eager"]
    assert build(**anew, **variants) == []
    assert sorted(path.name for path in store.glob("*.mar")) == [
        "tiny-eager-1.0.1.mar", "tiny-eager-1.0.mar", "tiny-eager-float16-1.2.1.mar", "tiny-eager-float16-1.2.mar",
        "tiny-openvino-5.0.1.mar", "tiny-openvino-5.0.mar", "tiny-torchscript-2.0.1.mar", "tiny-torchscript-2.0.mar",
    ]  # fmt: skip
    assert build(**variants) == []  # the recipe's own versions are as they were


@pytest.mark.parametrize(
    ("there", "following"),
    [
        ((), "1.0"),
        (("tiny-eager-1.0",), "1.0.1"),
        (("tiny-eager-1.0", "tiny-eager-1.0.9"), "1.0.10"),
        (("tiny-eager-7.0",), "7.1"),
        (("tiny-eager-0.5",), "1.0"),
        (("tiny-eager-1.0", "tiny-openvino-1.0.1"), "1.0.2"),
        (("tiny-eager-1.9",), "1.10"),
        (("tiny-eager-4.9", "other-eager-9.0"), "4.10"),
        (("tiny-eager-1",), "1.0"),
        (("tiny-eager-1.0.4", "tiny-torchscript-1.0.5"), "1.0.6"),
        (("tiny-eager-4",), "5"),
        (("tiny-eager-1.0.tar.gz",), "1.0.1"),
    ],
)
def test_the_next_version_is_newer_and_no_other_archives(there: Iterable[str], following: str, tmp_path: Path) -> None:
    for name in there:
        (tmp_path / (name if name.endswith(".gz") else f"{name}.mar")).touch()
    wanted = ArchiveName(model="tiny", runtime="eager", version="1.0")
    assert next_version(wanted, read_recipe(TINY_RECIPE), tmp_path) == following


def test_one_version_is_that_of_one_archive(build: Build) -> None:
    build(version="9.0", **EAGER)
    with pytest.raises(UserError, match=r"version 9\.0 of tiny is tiny-eager-9\.0\.mar; .* VERSION=2\.0, or"):
        build(version="9.0", runtime=("torchscript",), force=True)
    with pytest.raises(UserError, match=r"version 9\.00 of tiny is tiny-eager-9\.0\.mar"):
        build(version="9.00", **EAGER)
    with pytest.raises(UserError, match=r"VERSION=9\.0 is for 2 archives"):
        build(version="9.0")
    with pytest.raises(UserError, match=r"VERSION=new: a version consists of digits and dots"):
        build(version="new", **EAGER)


def test_auto_never_falls_back_to_untrained_weights_where_there_are_trained_ones(
    options: Options, monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    def no_network(*_: object) -> None:
        raise DownloadError("no network here")

    monkeypatch.setattr(weights, "_found", no_network)
    auto = replace(options, weights="auto")
    path, _ = release.release(auto)
    assert read_archive_identity(path).model.weights == UNTRAINED
    path.unlink()
    record_of(path).unlink()
    release.release(options)
    for another in (auto, replace(auto, force=True), replace(auto, version="next"), replace(auto, runtime="openvino")):
        with pytest.raises(UserError, match=r"no network here\nTry again when there is a network, or pass WEIGHTS="):
            release.release(another)


def test_what_derives_from_archives_takes_those_that_are_there(
    archive: Path, build: Build, recipes: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "recipe_file", lambda *_: recipes / "tiny.yaml")
    before = archive.read_bytes()
    (recipes / "labels.json").write_text("[]")  # `make archive` would refuse it
    make.ensure("tiny", ("eager", "float32"), store=store)
    assert archive.read_bytes() == before
    make.ensure("tiny", ("torchscript", "float32"), ("openvino", "int8"), store=store)
    for name in ("tiny-torchscript-2.0.mar", "tiny-openvino-int8-5.2.mar"):
        assert read_archive_identity(store / name).model.weights == "mine"  # and not the recipe's, which is the default
    (recipes / "mine.pth").write_bytes(b"trained on")
    with pytest.raises(UserError, match=r"archives have weights \w{12}, but WEIGHTS=.*mine\.pth is \w{12} now"):
        make.ensure("tiny", ("onnxruntime", "float32"), store=store)
