"""The command line of a TorchServe."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.stock import stock_command
from scripts.archives.store import Archive, find_archive
from scripts.building.build import build
from scripts.building.options import Options
from scripts.console import UserError
from scripts.torchserve.command import CONFIG, Start, java, refuse_elsewhere
from scripts.torchserve.config import write_config


@pytest.fixture
def archive(options: Options) -> Archive:
    build(options)
    return find_archive("tiny", options.store)


@pytest.fixture
def start(archive: Archive, tmp_path: Path) -> Start:
    config = {"model_store": str(archive.path.parent), "vmargs": "-XX:+UseSerialGC -Da=b"}
    return Start(config, [archive], tmp_path / "jdk", tmp_path / "temporary", None)


def test_it_is_that_of_torchserves_own_launcher_without_the_current_folder(start: Start, tmp_path: Path) -> None:
    program = start.java_home / "bin/java"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho java\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    start.temporary.mkdir()
    state = tmp_path / "state"
    state.mkdir()
    write_config(dict(start.config), state / CONFIG)
    variables = {"JAVA_HOME": start.java_home, "TEMP": start.temporary, "TMPDIR": start.temporary}
    theirs = subprocess.run(
        stock_command(start), cwd=state, env=os.environ | variables, capture_output=True, text=True, check=True
    )
    said = theirs.stdout.partition("java\n")[2].replace("\n.:", "\n").replace("frontend/*", "frontend/model-server.jar")
    _, *ours = java(start)
    options = ours.index("-cp")
    assert sorted(said.splitlines()[:options]) == sorted(ours[:options])
    assert said.splitlines()[options:] == ours[options:]


def test_it_names_models_unless_a_snapshot_does(start: Start) -> None:
    assert java(start)[-2:] == ["-m", "tiny=tiny-eager-1.0.mar"]
    restored = start._replace(config={**start.config, "model_snapshot": "{}"})
    for without in (restored, start._replace(archives=[])):
        assert java(without)[-2:] == ["-s", start.config["model_store"]]


def test_the_log_configuration_counts_whatever_java_is_told_beside_it(start: Start) -> None:
    config = {**start.config, "vmargs": "-Dlog4j.configurationFile=theirs.xml"}
    given = java(start._replace(config=config, log_config=Path("a b/log4j2.xml")))
    said = [word for word in given if word.startswith("-Dlog4j.configurationFile=")]
    assert said[-1] == f"-Dlog4j.configurationFile={Path.cwd().as_uri()}/a%20b/log4j2.xml"


@pytest.mark.parametrize(("plugins", "classes"), [("/plugins", "/plugins/*"), ("/plugins/a*", "/plugins/a*")])
def test_plugins_are_in_the_class_path(start: Start, plugins: str, classes: str) -> None:
    given = java(start._replace(config={**start.config, "plugins_path": plugins}))
    assert given[given.index("-cp") + 1].split(":")[1:] == [classes]


def test_an_archive_outside_the_model_store_is_refused_instead_of_another_of_its_name(
    archive: Archive, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copied = Archive(Path(shutil.copy(archive.path, elsewhere)), archive.identity)
    with pytest.raises(UserError, match=f"{copied.path} does not lie in {archive.path.parent}"):
        refuse_elsewhere([archive, copied], archive.path.parent)
    refuse_elsewhere([archive], archive.path.parent)
