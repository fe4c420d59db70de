"""Java prepared for fast starts, which never fails."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.serving import prepare_java as module
from scripts.serving.prepare_java import prepare
from scripts.torchserve.class_data import options
from scripts.torchserve.command import archive_of_classes, jar
from scripts.torchserve.config import CONFIG_FILE, read_config
from scripts.torchserve.java import bundled_java_home
from tests.unit.test_makefile import ROOT

CONFIG = read_config(ROOT / CONFIG_FILE)
PROGRAM = "org.pytorch.serve.ModelServer"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of Python without an archive."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return tmp_path


def test_a_java_that_does_not_start_is_told_once_and_tried_once(
    environment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = environment / "jdk/bin/java"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho started >> ../../started\n")
    program.chmod(0o755)
    monkeypatch.setattr(module, "find_java_home", lambda: environment / "jdk")
    monkeypatch.setattr("scripts.torchserve.server.find_java_home", lambda: environment / "jdk")
    for _ in range(2):
        prepare(CONFIG)
    captured = capsys.readouterr()
    assert captured.out.count("preparing Java") == 1
    assert captured.err.count("servers start without an archive of Java's classes") == 1
    assert options(archive_of_classes(environment / "jdk")) == []


def test_an_environment_that_cannot_be_written_to_is_left_alone(
    environment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr(module, "find_java_home", lambda: environment / "jdk")
    prepare(CONFIG)
    assert capsys.readouterr() == ("", "")
    assert list(environment.iterdir()) == []


@pytest.mark.slow
def test_java_maps_the_classes_of_torchserve(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = bundled_java_home()
    assert home is not None
    monkeypatch.setenv("JAVA_HOME", str(home))
    prepare(CONFIG)
    given = options(archive_of_classes(home))
    command = [str(home / "bin/java"), *given, "-XX:+UseSerialGC", "-Xshare:on", "-Xlog:class+load"]
    command += ["-cp", str(jar()), PROGRAM]
    said = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False).stdout
    assert f"{PROGRAM} source: shared objects file" in said
    assert list(environment.rglob("*.jsa")) == [archive_of_classes(home)]
