"""Builds one archive: `python -m scripts.building <the JSON of Options>`."""

import os
import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while torch is imported, an interrupt ends this at once, and quietly
if os.environ.get("PYTHONHASHSEED") != "0":
    # torch.jit.script walks sets of names: with a random hash seed its output differs from build to build
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"PYTHONHASHSEED": "0"})  # noqa: S606

from scripts.building.release import main
from scripts.console import run

run(main)
