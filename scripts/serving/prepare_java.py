"""Prepares Java for fast starts: lists the classes that a front end loads, and has Java write them into an archive."""

import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from scripts.console import UserError, run, step, tail, warn
from scripts.torchserve import class_data
from scripts.torchserve.command import Start, archive_of_classes, jar, java
from scripts.torchserve.config import read_config, with_free_ports
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.java import find_java_home
from scripts.torchserve.server import CONSOLE_LOG, find, start, stop

_DEADLINE_S: Final = 60
_POLL_S: Final = 0.1
_OWN: Final = "org/pytorch/serve/"  # TorchServe's own classes; without a model it does not load all of them
_COLLECTOR: Final = re.compile(r"-XX:\+Use\w+GC")  # `class_data` has its own
_LOADS: Final = ("model_snapshot", "load_models", "models")  # settings that would load something


def prepare(config: Mapping[str, str]) -> None:
    """Have the archive of Java's classes. A server without it is as good, but starts later, so no failure ends this.

    A failed attempt leaves an empty file, so that it is not repeated at each start.

    Args:
        config: the settings of the servers that will be started.

    Raises:
        UserError: there is no Java.
    """
    archive = archive_of_classes(find_java_home())
    if archive.exists() or not os.access(sys.prefix, os.W_OK):
        return
    step("preparing Java for fast starts, once")
    try:
        with tempfile.TemporaryDirectory(prefix="classes-") as folder:
            _write(config, Path(folder), archive)
    except (OSError, UserError, subprocess.SubprocessError) as error:
        warn(f"servers start without an archive of Java's classes, and so a little later: {error}")
        with suppress(OSError):
            archive.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            archive.touch()


def _write(config: Mapping[str, str], folder: Path, archive: Path) -> None:
    """Run a front end without models to see which classes it loads, and write the archive of them.

    Raises:
        UserError: Java does not start, or writes no archive.
        OSError: a file cannot be written.
    """
    classes, store, state = folder / "classes.lst", folder / "store", folder / "state"
    store.mkdir()
    used: list[str] = []

    def listing(of: Start) -> list[str]:
        program, *rest = used[:] = java(of)
        return [program, f"-XX:DumpLoadedClassList={classes}", *rest]

    settings = {name: value for name, value in config.items() if name not in _LOADS} | {"model_store": str(store)}
    try:
        start(with_free_ports(settings), [], state, command=listing)
        _wait(state)
    finally:
        stop(state)
    with classes.open("a") as more, zipfile.ZipFile(jar()) as content:
        names = (name for name in content.namelist() if name.startswith(_OWN) and name.endswith(".class"))
        more.writelines(f"{name.removesuffix('.class')}\n" for name in names)
    until_the_program = used[: used.index("-cp") + 2]
    class_data.write([word for word in until_the_program if not _COLLECTOR.fullmatch(word)], classes, archive, state)


def _wait(state: Path) -> None:
    """Wait until the front end answers.

    Raises:
        UserError: it ended, or does not answer in time.
    """
    deadline = time.monotonic() + _DEADLINE_S
    while (server := find(state)) is not None and time.monotonic() < deadline:
        with suppress(RequestFailedError):
            server.client(connect_retries=0).versions()
            return
        time.sleep(_POLL_S)
    raise UserError(f"TorchServe does not start without models; the end of its log:\n{tail(state / CONSOLE_LOG, 5)}")


def main() -> None:
    """Prepare Java for servers with the configuration that the command line names."""
    if len(sys.argv) != 2:
        raise UserError("name one configuration: python -m scripts.serving.prepare_java <config.properties>")
    prepare(read_config(Path(sys.argv[1])))


if __name__ == "__main__":
    run(main)
