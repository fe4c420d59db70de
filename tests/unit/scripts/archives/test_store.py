import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from scripts.archives.format import Format
from scripts.archives.store import (
    archives_of,
    content_of,
    find_archive,
    find_in_store,
    find_path,
    newest,
    newest_in,
    read_archive_identity,
    versions_in,
)
from scripts.building.build import build
from scripts.building.options import Options
from scripts.console import UserError
from tests.conftest import TINY_RECIPE


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path, golden: Path) -> Path:
    """A store with two archives, and what else lies in stores."""
    folder = tmp_path_factory.mktemp("store")
    eager = Options(recipe=TINY_RECIPE, weights=str(tiny_weights), golden=golden, store=folder, cache=folder)
    build(eager)
    build(replace(eager, runtime="torchscript", archive_format="tgz"))
    (folder / ".tiny-eager-1.0.mar.settings").touch()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("tiny", "tiny-eager-1.0.mar"),
        ("tiny-eager", "tiny-eager-1.0.mar"),
        ("tiny-eager-1.0", "tiny-eager-1.0.mar"),
        ("tiny-eager-1.0.mar", "tiny-eager-1.0.mar"),
        ("tiny-torchscript", "tiny-torchscript-2.0.tar.gz"),
        ("tiny-torchscript-2.0.tar.gz", "tiny-torchscript-2.0.tar.gz"),
    ],
)
def test_an_archive_is_found_by_what_people_call_it(name: str, found: str, store: Path) -> None:
    archive = find_archive(name, store)
    assert archive.path == store / found
    assert archive.identity.model.name == "tiny"
    assert archive.identity.model.runtime == found.split("-")[1]


@pytest.mark.parametrize(
    "path", ["{store}/tiny-eager-1.0.mar", "{store}/../{folder}/tiny-eager-1.0.mar", "{folder}/tiny-eager-1.0.mar"]
)
def test_a_path_into_the_store_is_the_stores_archive(path: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.parent)
    name = path.format(store=store, folder=store.name)
    assert find_archive(name, store).path == store / "tiny-eager-1.0.mar"
    assert find_in_store(name, store) == store / "tiny-eager-1.0.mar"


@pytest.mark.parametrize(
    "name", ["{elsewhere}/tiny-eager-1.0.mar", "./tiny-eager-1.0.mar", "../elsewhere/tiny-eager-1.0.mar"]
)
def test_a_path_is_that_very_file_and_none_of_the_same_name_in_the_store(
    name: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = Path(shutil.copy(store / "tiny-eager-1.0.mar", elsewhere))
    monkeypatch.chdir(elsewhere)
    name = name.format(elsewhere=elsewhere)
    assert find_archive(name, store).path.samefile(other)
    assert not find_archive(name, store).path.samefile(store / other.name)
    assert find_archive(other.name, store).path == store / other.name  # without a folder it is the store's
    with pytest.raises(UserError, match=re.escape(f"{name} does not lie in the model store {store}")):
        find_in_store(name, store)


@pytest.mark.parametrize(
    "name", ["{elsewhere}/tiny-eager-1.0.mar", "./tiny-eager-1.0.mar", "{store}/tiny-eager", "{store}/tiny"]
)
def test_a_path_where_nothing_lies_is_said_and_nothing_else_is_taken(
    name: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "another.mar").touch()
    monkeypatch.chdir(tmp_path)
    name = name.format(elsewhere=tmp_path, store=store)
    there = "tiny-eager-1.0.mar, tiny-torchscript-2.0.tar.gz" if str(store) in name else "another.mar"
    with pytest.raises(UserError, match=re.escape(f"there is no archive {Path(name)} (in that folder: {there})")):
        find_archive(name, store)


def test_a_whole_file_name_is_that_file_and_no_longer_one(options: Options) -> None:
    """An archive that was copied with one suffix too many does not stand in for the one that is named."""
    path, _ = build(options)
    shutil.copy(path, path.with_name(f"{path.name}.mar"))
    assert find_archive(path.name, options.store).path == path


@pytest.mark.slow
def test_an_unpacked_archive_is_one_too(options: Options) -> None:
    path, _ = build(replace(options, archive_format="no-archive"))
    assert find_archive("tiny", options.store).path == path


@pytest.mark.parametrize("name", ["vgg16", "vgg16-eager-1.0.mar"])
def test_a_missing_archive_is_answered_with_what_is_there_and_how_to_build_it(name: str, store: Path) -> None:
    message = f"no archive {name} in {store} (there: tiny-eager-1.0.mar, tiny-torchscript-2.0.tar.gz); build it with "
    with pytest.raises(UserError, match=re.escape(f"{message}`make archive MODEL=vgg16`")):
        find_archive(name, store)


@pytest.mark.parametrize("exists", [True, False])
def test_an_empty_store_has_nothing(exists: bool, tmp_path: Path) -> None:
    if exists:
        (tmp_path / "store").mkdir()
    with pytest.raises(UserError, match="there: nothing"):
        find_archive("vgg16", tmp_path / "store")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, empty])
@pytest.mark.parametrize("archive_format", ["zip-store", "tgz"])
def test_a_broken_archive_is_refused_with_what_to_do(
    archive_format: Format, damage: Callable[[Path], None], options: Options
) -> None:
    path, _ = build(replace(options, archive_format=archive_format))
    damage(path)
    with pytest.raises(UserError, match=f"(?s){re.escape(path.name)} is broken .*; build it again with `make archive`"):
        find_archive(path.name, options.store)


@pytest.mark.slow
@pytest.mark.parametrize("archive_format", ["zip-store", "tgz"])
def test_damage_anywhere_is_a_refusal_if_it_is_noticed_and_no_traceback(
    archive_format: Format, options: Options
) -> None:
    path, _ = build(replace(options, archive_format=archive_format))
    whole, refused = path.read_bytes(), 0
    for at in range(0, len(whole), len(whole) // 200):
        path.write_bytes(whole[:at] + bytes(value ^ 0x55 for value in whole[at : at + 10]) + whole[at + 10 :])
        try:
            find_archive(path.name, options.store)
        except UserError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ({"identity.json"}, "is broken .*it lacks identity.json"),
        ({"digests.json"}, "is broken .*it lacks identity.json or digests.json"),
        ({"identity.json", "digests.json"}, "was not built by `make archive`.*`make adopt FROM={path}`"),
    ],
)
def test_an_archive_that_somebody_else_built_is_refused(
    missing: set[str], why: str, store: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.mar"
    with zipfile.ZipFile(store / "tiny-eager-1.0.mar") as ours, zipfile.ZipFile(foreign, "w") as theirs:
        for name in set(ours.namelist()) - missing:
            theirs.writestr(name, ours.read(name))
    with pytest.raises(UserError, match=why.format(path=re.escape(str(foreign)))):
        read_archive_identity(foreign)


@pytest.mark.slow
def test_an_identity_that_is_none_is_a_broken_archive(options: Options, tmp_path: Path) -> None:
    path, _ = build(replace(options, archive_format="no-archive"))
    changed = Path(shutil.copytree(path, tmp_path / "changed"))
    (changed / "identity.json").write_text(json.dumps({"model": "tiny"}))
    with pytest.raises(UserError, match="is broken"):
        read_archive_identity(changed)


def test_a_name_without_a_version_is_the_newest_one_by_its_numbers(tmp_path: Path) -> None:
    for name in ("1.0", "1.9", "1.10", "1.2.3"):
        (tmp_path / f"tiny-eager-{name}.mar").touch()
    (tmp_path / "tiny-eager-float16-9.0.mar").touch()
    assert find_path("tiny-eager", tmp_path).name == find_path("tiny", tmp_path).name == "tiny-eager-1.10.mar"
    assert find_path("tiny-eager-1.9", tmp_path).name == "tiny-eager-1.9.mar"
    assert find_path("tiny-eager-float16", tmp_path).name == "tiny-eager-float16-9.0.mar"
    assert newest("tiny-eager-1.1", tmp_path) is None
    with pytest.raises(UserError, match=r"no archive tiny-eager\.mar in .* \(there: .*tiny-eager-1\.10\.mar"):
        find_path("tiny-eager.mar", tmp_path)


def test_a_model_without_an_eager_archive_is_found_by_the_first_runtime_that_it_has(tmp_path: Path) -> None:
    for name in ("tiny-openvino-5.0.mar", "tiny-onnxruntime-4.0.mar", "tiny-openvino-int8-5.2.mar"):
        (tmp_path / name).touch()
    assert find_path("tiny", tmp_path).name == "tiny-onnxruntime-4.0.mar"


def test_a_file_without_a_version_in_its_name_is_found_where_none_has_one(tmp_path: Path) -> None:
    (tmp_path / "tiny-eager.mar").touch()
    (tmp_path / "copy.mar").touch()
    names = ("tiny", "tiny-eager", "tiny-eager.mar")
    assert [find_path(name, tmp_path).name for name in names] == ["tiny-eager.mar"] * 3
    assert find_path("copy", tmp_path).name == "copy.mar"
    (tmp_path / "tiny-eager-0.1.mar").touch()
    found = ["tiny-eager-0.1.mar", "tiny-eager-0.1.mar", "tiny-eager.mar"]
    assert [find_path(name, tmp_path).name for name in names] == found


def test_of_one_version_in_several_formats_the_mar_counts(tmp_path: Path) -> None:
    for name in ("tiny-eager-1.0.tar.gz", "tiny-eager-1.0.mar", "tiny-eager-0.9.mar", "notes.mar"):
        (tmp_path / name).touch()
    (tmp_path / "tiny-eager-1.0").mkdir()
    assert [path.name for _, path in versions_in(tmp_path)] == [
        "tiny-eager-0.9.mar", "tiny-eager-1.0.mar", "tiny-eager-1.0.tar.gz", "tiny-eager-1.0",
    ]  # fmt: skip
    assert find_path("tiny", tmp_path).name == "tiny-eager-1.0.mar"
    assert [path.name for path in newest_in(tmp_path)] == ["notes.mar", "tiny-eager-1.0.mar"]


@pytest.mark.slow
def test_of_each_variant_the_newest_is_compared(options: Options) -> None:
    for version in ("1.9", "1.10"):
        build(replace(options, version=version))
    build(replace(options, runtime="torchscript"))
    build(replace(options, runtime="torchscript", version="2.0.1"))
    names = [archive.path.name for archive in archives_of("tiny", options.store)]
    assert names == ["tiny-eager-1.10.mar", "tiny-torchscript-2.0.1.mar"]


def test_the_content_of_an_archive_is_that_of_its_digests(store: Path) -> None:
    with zipfile.ZipFile(store / "tiny-eager-1.0.mar") as archive:
        assert content_of(store / "tiny-eager-1.0.mar") == hashlib.sha256(archive.read("digests.json")).hexdigest()
