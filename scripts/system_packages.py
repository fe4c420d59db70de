"""The system programs that a few tests and the benchmark need: `make setup-system`.

As root on Debian it installs what is missing; elsewhere it says what to install, and those tests skip with that reason.
"""

import os
import shutil
import subprocess
from typing import Final

from scripts.console import UserError, done, err, run, step

PACKAGES: Final = {"prometheus": "prometheus", "wrk": "wrk"}  # program: Debian package


def missing() -> dict[str, str]:
    """The programs that are not there, with the package of each."""
    return {program: package for program, package in PACKAGES.items() if shutil.which(program) is None}


def main() -> None:
    """Install what is missing, or say what to install."""
    packages = sorted(set(missing().values()))
    if not packages:
        done("all system programs are there")
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        err.print(f"for all tests install: {', '.join(packages)} (Debian: apt-get install {' '.join(packages)})")
        return
    step(f"installing {', '.join(packages)} with apt-get")
    # RUNLEVEL=1 keeps Debian from starting the services that it installs; the tests start their own
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]
    for command in (["apt-get", "update", "-q"], install):
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise UserError(f"{' '.join(command)} failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    done(f"installed {', '.join(packages)}")


if __name__ == "__main__":
    run(main)
