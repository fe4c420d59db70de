"""Archives that this project did not make: every verb that reads archives says so, and what to do about it."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from classifier import load
from classifier.digests import verify
from classifier.errors import BrokenArchiveError, ForeignArchiveError

from scripts.admission.admit import admit
from scripts.admission.signing import create_keys, read_private_key, sign
from scripts.admission.verify import verify_store
from scripts.archives.loaded import loaded
from scripts.archives.store import find_archive, read_archive_identity, read_archive_recipe
from scripts.console import UserError
from scripts.torchserve.config_check import check


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What torch-model-archiver takes, with the stock handler."""
    folder = tmp_path_factory.mktemp("content")
    (folder / "model.pth").write_bytes(b"weights")
    (folder / "index_to_name.json").write_text('{"0": "cat"}')
    return folder


@pytest.fixture(scope="module")
def store(content: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archives of TorchServe's own archiver in each of its formats, and one that was zipped by hand."""
    folder = tmp_path_factory.mktemp("store")
    for kind in ("default", "zip-store", "tgz", "no-archive"):
        subprocess.run(
            [
                *(sys.executable, "-m", "model_archiver.model_packaging", "--archive-format", kind),
                *("--model-name", kind, "--version", "1.0", "--handler", "image_classifier"),
                *(
                    "--serialized-file",
                    str(content / "model.pth"),
                    "--extra-files",
                    str(content / "index_to_name.json"),
                ),
                *("--export-path", str(folder)),
            ],
            check=True,
            capture_output=True,
        )
    with zipfile.ZipFile(folder / "hand.mar", "w") as made:
        made.write(content / "model.pth", "model.pth")
    return folder


NAMES = ["default.mar", "zip-store.mar", "tgz.tar.gz", "no-archive", "hand.mar"]


def use(archive: Path) -> None:
    with loaded(archive):
        raise AssertionError("it was loaded")


VERBS: dict[str, Callable[[Path], object]] = {
    "serve": lambda archive: admit(archive.name, archive.parent, None, "served"),
    "register": lambda archive: admit(archive.name, archive.parent, None, "registered"),
    "classify, card and others": lambda archive: find_archive(f"{archive.parent}/{archive.name}", archive.parent),
    "identity": read_archive_identity,
    "recipe": read_archive_recipe,
    "devserver": use,
    "load": load,
    "verify": verify,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("verb", VERBS)
def test_an_archive_of_somebody_else_is_called_that_and_told_to_be_adopted(store: Path, name: str, verb: str) -> None:
    with pytest.raises((UserError, ForeignArchiveError)) as refused:
        VERBS[verb](store / name)
    said = str(refused.value)
    assert f"{store / name} was not built by `make archive`" in said
    assert f"`make adopt FROM={store / name}`" in said
    assert not re.search("broken|plain|damaged|again", said)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_not_signed_either(store: Path, name: str, tmp_path: Path) -> None:
    create_keys(tmp_path / "keys", None)
    with pytest.raises(UserError, match="make adopt"):
        sign(store / name, read_private_key(tmp_path / "keys" / "private.pem", None))


def test_the_verbs_of_whole_stores_say_the_same(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make adopt"):
        verify_store(store)
    config = tmp_path / "config.properties"
    config.write_text(f"model_store={store}\n")
    said = [finding.text for _, finding in check(config, 2) if "make adopt" in finding.text]
    assert len(said) == len([name for name in NAMES if name != "no-archive"])


@pytest.mark.parametrize("kept", ["identity.json", "digests.json"])
def test_an_archive_of_ours_that_lost_a_file_is_broken(
    tiny_archive: Callable[..., Path], tmp_path: Path, kept: str
) -> None:
    changed = tmp_path / "changed.mar"
    with zipfile.ZipFile(tiny_archive()) as ours, zipfile.ZipFile(changed, "w") as theirs:
        for name in set(ours.namelist()) - ({"identity.json", "digests.json"} - {kept}):
            theirs.writestr(name, ours.read(name))
    with pytest.raises(BrokenArchiveError) as refused:
        verify(changed)
    assert not isinstance(refused.value, ForeignArchiveError)


@pytest.mark.parametrize("name", ["x.mar", "x.tar.gz"])
def test_what_cannot_be_read_is_broken_whoever_made_it(store: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no archive")
    with pytest.raises(UserError, match="is broken"):
        find_archive(f"{tmp_path}/{name}", tmp_path)
    shutil.copyfile(store / "default.mar", tmp_path / "cut.mar")
    with (tmp_path / "cut.mar").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(BrokenArchiveError, match="not a zip file"):
        verify(tmp_path / "cut.mar")


def test_of_a_bomb_nobody_is_told_who_made_it(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.tar.gz"
    (tmp_path / "zeros").write_bytes(bytes(20_000_000))
    with tarfile.open(bomb, "w:gz") as tar:
        tar.add(tmp_path / "zeros", "x/zeros")
    with pytest.raises(UserError, match="is broken"):
        admit(bomb.name, tmp_path, None, "served")
