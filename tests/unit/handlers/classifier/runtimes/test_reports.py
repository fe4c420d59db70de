"""No library that is loaded here reports to its makers."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("module", ["classifier.runtimes.openvino", "scripts.building.exports.openvino"])
def test_openvino_reports_nothing(module: str) -> None:
    """Neither by the package that does it, nor in a process of its own."""
    code = f"""
import multiprocessing, os, sys
forked = []
os.register_at_fork(before=lambda: forked.append(True))
import {module}
print("openvino" in sys.modules, [name for name in sys.modules if name.startswith("openvino_telemetry.")], forked)
"""
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stdout == "True [] []\n"
