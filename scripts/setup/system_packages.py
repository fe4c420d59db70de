"""The system programs that a few tests and the benchmark need: `make setup-system`.

As root on Debian it installs what is missing; elsewhere it says what to install, and those tests skip with that reason.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from scripts.console import UserError, done, err, step

JARS: Final = Path("/usr/share/java")

# Program, podman's own program, header of a library, or Java archive: Debian package.
PACKAGES: Final = {
    "prometheus": "prometheus",
    "wrk": "wrk",
    "iptables": "iptables",  # containers' networks
    "ip": "iproute2",
    "tc": "iproute2",
    "buildah": "buildah",  # containers
    "podman": "podman",
    "podman/netavark": "netavark",  # their networks
    "podman/aardvark-dns": "aardvark-dns",  # names in those
    "runc": "runc",
    "debootstrap": "debootstrap",  # the image that theirs build on
    "chromium": "chromium",
    "cmake": "cmake",
    "pkg-config": "pkg-config",
    "jpeglib.h": "libjpeg-dev",
    "png.h": "libpng-dev",
    "libexif/exif-data.h": "libexif-dev",
    "nlohmann/json.hpp": "nlohmann-json3-dev",
    "junit4.jar": "junit4",
    "json-android.jar": "libandroid-json-org-java",
}


def missing() -> dict[str, str]:
    """What is not there, with the package of each."""
    return {name: package for name, package in PACKAGES.items() if not _is_there(name)}


def _is_there(name: str) -> bool:
    if name.endswith((".h", ".hpp")):
        return Path("/usr/include", name).exists()
    if name.endswith(".jar"):
        return (JARS / name).exists()
    if name.startswith("podman/"):
        return Path("/usr/lib", name).exists()
    return shutil.which(name) is not None


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
