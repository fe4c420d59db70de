"""The archive of Java's classes: where it is, whether it may be used, and how it is written."""

import sys
from pathlib import Path

import pytest

from scripts.console import UserError
from scripts.torchserve.class_data import archive_of, options, write


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "classes" / "0123.jsa"
    path.parent.mkdir(mode=0o755)
    path.write_bytes(b"classes")
    path.chmod(0o644)
    return path


def test_java_is_told_of_an_archive_that_only_its_owner_can_write(archive: Path) -> None:
    assert options(archive) == [f"-XX:SharedArchiveFile={archive}"]


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_an_archive_that_others_can_write_is_not_used(archive: Path, mode: int) -> None:
    archive.chmod(mode)
    assert options(archive) == []


def test_an_archive_in_a_folder_that_others_can_write_to_is_not_used(archive: Path) -> None:
    archive.parent.chmod(0o777)
    assert options(archive) == []


def test_a_link_is_no_archive(archive: Path) -> None:
    link = archive.with_name("link.jsa")
    link.symlink_to(archive)
    link.chmod(0o644)
    assert options(link) == []


def test_without_an_archive_and_with_the_mark_of_a_failure_there_are_no_options(archive: Path) -> None:
    archive.write_bytes(b"")
    assert options(archive) == []
    archive.unlink()
    assert options(archive) == []


def test_another_java_and_another_torchserve_have_another_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    homes, jar = [tmp_path / "a", tmp_path / "b"], tmp_path / "model-server.jar"
    jar.write_bytes(b"PK")
    for home in homes:
        home.mkdir()
    found = {archive_of(home, jar) for home in homes}
    (homes[0] / "release").write_text('JAVA_VERSION="25"')
    found.add(archive_of(homes[0], jar))
    jar.write_bytes(b"PK and more")
    found.add(archive_of(homes[0], jar))
    assert len(found) == 4
    assert all(path.is_relative_to(tmp_path) for path in found)
    assert archive_of(homes[0], jar) in found


def java(folder: Path, script: str) -> list[str]:
    program = folder / "java"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return [str(program), "-cp", "model-server.jar"]


def test_java_writes_the_archive_from_the_list(tmp_path: Path) -> None:
    target = tmp_path / "share" / "0123.jsa"
    write(java(tmp_path, 'echo "$@" > "${6#*=}"'), tmp_path / "classes.lst", target, tmp_path)
    said = target.read_text().split()
    assert said[:4] == ["-cp", "model-server.jar", "-XX:+UseG1GC", "-Xshare:dump"]
    assert said[4] == f"-XX:SharedClassListFile={tmp_path}/classes.lst"
    assert options(target)
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("script", ["echo no memory; exit 1", "echo no memory"])
def test_a_java_that_writes_none_is_quoted_and_leaves_nothing(tmp_path: Path, script: str) -> None:
    target = tmp_path / "share" / "0123.jsa"
    with pytest.raises(UserError, match="wrote no archive of classes: no memory"):
        write(java(tmp_path, script), tmp_path / "classes.lst", target, tmp_path)
    assert list(target.parent.iterdir()) == []
