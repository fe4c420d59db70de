"""Injects faults into a TorchServe: kills and freezes processes, and exhausts memory and disks."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from scripts.console import UserError

_GROUPS: Final = Path("/sys/fs/cgroup")
_GONE_DEADLINE_S: Final = 20


@contextmanager
def hung(process: psutil.Process) -> Iterator[None]:
    """Suspend a process, like a deadlock; at the end it is resumed, if it still exists."""
    process.suspend()
    try:
        yield
    finally:
        if process.is_running():
            process.resume()


@contextmanager
def little_data(process: psutil.Process, spare: int) -> Iterator[None]:
    """Let a process allocate only `spare` bytes more than it has (RLIMIT_DATA); the limit is lifted at the end.

    The limit counts reserved memory, used or not, and an allocation beyond it fails.
    """
    before = process.rlimit(psutil.RLIMIT_DATA)
    process.rlimit(psutil.RLIMIT_DATA, (process.memory_info().data + spare, before[1]))
    try:
        yield
    finally:
        if process.is_running():
            process.rlimit(psutil.RLIMIT_DATA, before)


def memory_groups() -> Path | None:
    """The folder in which groups with a memory limit can be made (cgroup v1's memory controller, or v2), or None."""
    for folder, mark in ((_GROUPS / "memory", "memory.limit_in_bytes"), (_GROUPS, "cgroup.subtree_control")):
        if (folder / mark).exists() and os.access(folder, os.W_OK):
            return folder if mark.startswith("memory") or "memory" in (folder / mark).read_text() else None
    return None


@contextmanager
def memory_group(process: psutil.Process, limit: int) -> Iterator[None]:
    """Put a process into a control group with a memory limit in bytes, as a container does.

    Only memory that it touches from now on counts. Beyond the limit the kernel kills it. The group is removed at the
    end.

    Raises:
        UserError: such a group cannot be made here.
    """
    folder = memory_groups()
    if folder is None:
        raise UserError(f"memory groups cannot be made below {_GROUPS}; they need root and the memory controller")
    group = folder / f"torchserve-fault-{process.pid}"
    group.mkdir()
    try:
        name = "memory.limit_in_bytes" if (group / "memory.limit_in_bytes").exists() else "memory.max"
        (group / name).write_text(str(limit))
        (group / "cgroup.procs").write_text(str(process.pid))
        yield
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (folder / "cgroup.procs").write_text(pid)
        group.rmdir()


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a file system of `size` bytes at a folder; it is unmounted at the end.

    Raises:
        UserError: this is not root, or mounting is not allowed here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "torchserve-fault", str(folder))
    try:
        yield
    finally:
        _run("umount", "--lazy", str(folder))


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise UserError(f"`{' '.join(command)}` failed; it needs root: {result.stderr.strip()}")


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Fill the file system of a folder to the last byte; the space is freed at the end."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 10, 1):
                _write_until_full(file.fileno(), size)
        yield
    finally:
        ballast.unlink(missing_ok=True)


def _write_until_full(file: int, size: int) -> None:
    try:
        while True:
            os.write(file, bytes(size))
    except OSError as error:
        if error.errno != 28:  # ENOSPC
            raise


def kill(process: psutil.Process) -> None:
    """Send SIGKILL, and return when the process is dead."""
    process.send_signal(signal.SIGKILL)
    psutil.wait_procs([process], timeout=_GONE_DEADLINE_S)
