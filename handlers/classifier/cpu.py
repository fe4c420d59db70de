"""What the processor can do, as far as archives depend on it."""

import functools
from pathlib import Path

from classifier.errors import UnusableError

_CPUINFO = Path("/proc/cpuinfo")
_NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # Intel and AMD, Intel's matrix unit, ARM


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The instruction sets of the first processor, as Linux names them: `avx512f`, `avx512_bf16`, `asimd`."""
    for line in _CPUINFO.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):  # x86, ARM
            return frozenset(value.split())
    return frozenset()


def require_native_bfloat16() -> None:
    """Refuse a processor that would only emulate bfloat16.

    Raises:
        UnusableError: it has no instructions for it.
    """
    if not cpu_flags() & _NATIVE_BFLOAT16:
        raise UnusableError(
            "this processor has no bfloat16 instructions (AVX512-BF16, AMX or ARM's BF16): "
            "serve the model's float32 archive here"
        )
