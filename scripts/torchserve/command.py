"""The command line of a TorchServe: its front end, which is Java."""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from scripts.archives.store import Archive, lies_in
from scripts.console import UserError
from scripts.torchserve import class_data

CONFIG: Final = "config.properties"  # in the folder that TorchServe is started in
_JAR: Final = "ts/frontend/model-server.jar"
_PROGRAM: Final = "org.pytorch.serve.ModelServer"


class Start(NamedTuple):
    """What a server is started with."""

    config: Mapping[str, str]
    archives: Sequence[Archive]  # to load, unless the configuration names what to load
    java_home: Path
    temporary: Path  # see `environment`
    log_config: Path | None  # a log4j configuration; None for TorchServe's own


Command = Callable[[Start], list[str]]


def java(start: Start) -> list[str]:
    """The command line of a server: Java itself.

    TorchServe's own launcher, a Python program, would put the same line together. It takes 0.2 s, stays as a process of
    its own, and has the current folder in the class path, with which Java shares no classes.
    """
    home, config = _torchserve(), start.config
    found = [str(start.java_home / "bin" / "java"), *class_data.options(archive_of_classes(start.java_home))]
    found += config.get("vmargs", "").split()
    found += [f"-Dmodel_server_home={home}", f"-Djava.io.tmpdir={start.temporary}"]  # the last one of a name counts
    if start.log_config is not None:
        found.append(f"-Dlog4j.configurationFile={start.log_config.resolve().as_uri()}")
    plugins = config.get("plugins_path", "")
    classes = [str(jar()), *([plugins if "*" in plugins else f"{plugins}/*"] if plugins else [])]
    found += ["-cp", ":".join(classes), _PROGRAM, "--python", sys.executable, "-f", CONFIG]
    found += ["-s", config["model_store"]]
    if "model_snapshot" not in config and start.archives:
        found += ["-m", *models(start.archives)]
    return found


def jar() -> Path:
    """The file with TorchServe's Java classes."""
    return _torchserve() / _JAR


def archive_of_classes(java_home: Path) -> Path:
    """The file of `class_data` for this Java and TorchServe, whether or not it is there."""
    return class_data.archive_of(java_home, jar())


def models(archives: Sequence[Archive]) -> list[str]:
    """The archives as TorchServe takes them: `<model>=<file in the store>`."""
    return [f"{archive.identity.model.name}={archive.path.name}" for archive in archives]


def refuse_elsewhere(archives: Sequence[Archive], store: Path) -> None:
    """Refuse archives outside the model store. TorchServe gets file names: it would load another of that name, or none.

    Raises:
        UserError: one does not lie there.
    """
    for archive in archives:
        if not lies_in(archive.path, store):
            raise UserError(f"{archive.path} does not lie in {store}, from which this server loads its archives")


def _torchserve() -> Path:
    """The folder that has TorchServe's package; importing the package would take longer.

    Raises:
        UserError: it is not installed.
    """
    if (spec := importlib.util.find_spec("ts")) is None or spec.origin is None:
        raise UserError("TorchServe is not installed; `make setup` does it")
    return Path(spec.origin).resolve().parents[1]
