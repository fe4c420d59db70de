"""Debian's buildah and podman, with settings, images and containers in a folder of their own.

They ask no registry: the image that the Dockerfiles build on is made here, from Debian's packages.
"""

import os
import platform
import re
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Final

from scripts.setup.system_packages import missing
from tests.integration import host_packages

PROGRAMS: Final = {"buildah", "podman", "runc", "podman/netavark", "podman/aardvark-dns", "iptables", "debootstrap"}

_DOCKERFILE: Final = Path(__file__).parents[2] / "docker" / "Dockerfile"
_BUILD_DEADLINE_S: Final = 2400
_COMMAND_DEADLINE_S: Final = 300
# What debootstrap leaves of itself, and no image needs.
_LEFT_OUT: Final = ("./var/cache/apt/*", "./var/lib/apt/lists/*", "./var/log/*")
# What it takes over from this machine.
_EMPTIED: Final = ("etc/apt/sources.list", "etc/hostname", "etc/resolv.conf")


def lacking() -> str | None:
    """Why there can be no containers here, in words; None if there can."""
    if platform.system() != "Linux":
        return "containers need Linux"
    if os.geteuid() != 0:
        return "containers are built and run as root here"
    if programs := sorted(PROGRAMS & missing().keys()):
        return f"{', '.join(programs)} not installed; `make setup-system` says how"
    if host_packages.debian_mirror() is None:
        return "apt has no source of Debian's packages, of which the base image is made; `apt-get update` may help"
    return None


def base_image() -> str:
    """What the Dockerfile builds on."""
    found = re.search(r"^ARG BASE=(\S+)", _DOCKERFILE.read_text(), re.MULTILINE)
    assert found
    return found[1]


class Engine:
    """One in a folder; the folder may be kept for another run, which then finds its images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.environment = {
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }
        self._write_settings()

    def podman(self, *arguments: str, timeout: float = _COMMAND_DEADLINE_S) -> subprocess.CompletedProcess[str]:
        return self._run("podman", *arguments, timeout=timeout)

    def build(self, name: str, context: Path, *options: str) -> None:
        """Build an image; the first time also the one it builds on."""
        base = base_image()
        release = base.partition(":")[2].removesuffix("-slim")
        if self.podman("image", "exists", base).returncode != 0:
            self._make_base(base, release)
        mounted = host_packages.mounts(self.folder / "packages", release)
        how = ["--isolation=chroot", "--network=host", "--format=docker", "--pull-never", "--layers"]
        how += host_packages.volumes(mounted)
        self._must("buildah", "build", *how, f"--tag={name}", *options, str(context))

    def remove(self) -> None:
        """Containers, images, and the folder."""
        self.podman("rm", "--all", "--force", "--time=0")
        self.podman("rmi", "--all", "--force")
        overlay = self.folder / "storage" / "overlay"
        if overlay.is_mount():  # podman mounts it on itself
            self._must("umount", str(overlay))
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_settings(self) -> None:
        driver = "overlay" if "\toverlay\n" in Path("/proc/filesystems").read_text() else "vfs"  # ten times slower
        # a machine that is itself a container may not raise its limits, and podman would
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        (self.folder / "containers.conf").write_text(f"""\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={files}:{files}"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs" # the other is systemd
events_logger = "file"
tmp_dir = "{self.folder}/run/libpod"
[network]
network_config_dir = "{self.folder}/networks"
""")
        (self.folder / "storage.conf").write_text(f"""\
[storage]
driver = "{driver}"
graphroot = "{self.folder}/storage"
runroot = "{self.folder}/run"
""")

    def _make_base(self, name: str, release: str) -> None:
        """Debian's smallest system, as its image on the registries is."""
        root, archive = self.folder / "root", self.folder / "root.tar"
        shutil.rmtree(root, ignore_errors=True)
        mirror = host_packages.debian_mirror()
        self._must("debootstrap", "--variant=minbase", release, str(root), str(mirror))
        for path in _EMPTIED:
            (root / path).write_text("")
        left_out = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
        self._must("tar", "--create", f"--file={archive}", f"--directory={root}", *left_out, ".")
        self._must("podman", "import", str(archive), name)
        shutil.rmtree(root)
        archive.unlink()

    def _run(self, *command: str, timeout: float) -> subprocess.CompletedProcess[str]:
        environment = os.environ | self.environment
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)

    def _must(self, *command: str) -> None:
        result = self._run(*command, timeout=_BUILD_DEADLINE_S)
        assert result.returncode == 0, f"{command[0]}: {result.stdout[-3000:]}{result.stderr[-3000:]}"
