"""What TorchServe's console log says, for people who want to know why a model does not come up."""

import re
from pathlib import Path
from typing import Final

# Lines of TorchServe 0.12.0 at its default log level.
_NOT_LOADED: Final = re.compile(r"Failed to load model: (?P<archive>\S+)\n(?P<cause>.*)")
_DIED: Final = re.compile(
    r"(?P<worker>W-\d+-(?P<model>\S+)_(?P<version>\S+)) State change WORKER_STARTED -> WORKER_(ERROR|STOPPED)"
)
_FROM_WORKER: Final = re.compile(r" (?P<worker>W-\d+-\S+?)-std(out|err) MODEL_LOG - (?P<text>.*)")
_EXCEPTION: Final = re.compile(r"[\w.]*(Error|Exception|Interrupt|Exit): .+")
_EMPTY_EXCEPTION: Final = "RuntimeError: 500 - Unknown exception"  # the worker's last words, which say nothing


def failure(log: str) -> str | None:
    """Why a model did not load, in a line or a few, if the log says that one did not."""
    if refused := _NOT_LOADED.search(log):
        return f"TorchServe cannot load {refused['archive']}: {refused['cause']}"
    if died := _DIED.search(log):
        return f"a worker of {died['model']} {died['version']} died while loading: {last_words(log, died['worker'])}"
    return None


def last_words(log: str, worker: str | None = None) -> str:
    """The last exception that a worker (or any) logged; without one, the last lines that it wrote."""
    lines = [match["text"] for match in _FROM_WORKER.finditer(log) if worker is None or match["worker"] == worker]
    exceptions = [line for line in lines if is_exception(line)]
    return exceptions[-1] if exceptions else "\n".join(lines[-10:]) or "it wrote nothing"


def is_exception(line: str) -> bool:
    """Whether a line is that of an exception that says something."""
    return _EXCEPTION.fullmatch(line) is not None and line != _EMPTY_EXCEPTION


def tail(log: Path, lines: int) -> str:
    """The last lines of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
