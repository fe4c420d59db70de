"""The notebook, executed as it stands there, with the tunnel off."""

import json
import subprocess
import sys

from tests.integration.conftest import CHECKOUT

NOTEBOOK = CHECKOUT / "notebooks/flask_behind_a_tunnel.ipynb"


def test_the_notebook_runs_from_top_to_bottom() -> None:
    command = [sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=300", "-p", "no:cacheprovider"]
    command += ["-c", "/dev/null", "--rootdir", str(CHECKOUT), str(NOTEBOOK)]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert "1 passed" in result.stdout


def test_the_tunnel_is_off_and_no_output_or_token_is_stored() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    source = "".join(line for cell in notebook["cells"] for line in cell["source"])
    assert 'TUNNEL = "none"' in source
    assert "set_auth_token(getpass(" in source
    assert all(not cell.get("outputs") for cell in notebook["cells"])
