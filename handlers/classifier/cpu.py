"""The processor's features that archives depend on, and the number of cores that this process may use."""

import functools
import math
import os
from pathlib import Path

from classifier.errors import UnusableError

_CPUINFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")  # in a container its own group appears as the root
_NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # Intel and AMD, Intel's matrix unit, ARM


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The instruction sets of the first processor, as Linux names them: `avx512f`, `avx512_bf16`, `asimd`."""
    for line in _CPUINFO.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):  # x86, ARM
            return frozenset(value.split())
    return frozenset()


def computes(precision: str) -> bool:
    """Whether the processor has instructions for a precision. Some only emulate bfloat16; all have the others."""
    return precision != "bfloat16" or bool(cpu_flags() & _NATIVE_BFLOAT16)


def require_native_bfloat16() -> None:
    """Refuse a processor that would only emulate bfloat16.

    Raises:
        UnusableError: the processor has no bfloat16 instructions.
    """
    if not computes("bfloat16"):
        raise UnusableError(
            "this processor has no bfloat16 instructions (AVX512-BF16, AMX or ARM's BF16): "
            "serve the model's float32 archive here"
        )


def usable_cores() -> int:
    """How many cores this process can keep busy: those that it may run on, or fewer if its container has a quota.

    A CPU limit of Kubernetes or Docker is such a quota. More threads than it allows use up the quota of each 100 ms
    early, and then all of them stand still until the next period begins.
    """
    return math.ceil(min(len(os.sched_getaffinity(0)), _quota()))


def _quota() -> float:
    """The container's CPU quota, in cores; infinite without a limit."""
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):  # version 2 of cgroups, version 1
        try:
            quota, period = " ".join((_CGROUP / file).read_text() for file in files).split()
        except OSError:
            continue
        return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    return math.inf
