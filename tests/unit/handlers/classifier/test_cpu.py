import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from classifier import cpu
from classifier.cpu import computes, cpu_flags, require_native_bfloat16, usable_cores
from classifier.errors import UnusableError
from classifier.recipe import Precision, RuntimeName, read_recipe
from classifier.runtimes import Source, load_runtime

from tests.conftest import TINY_RECIPE

X86 = """\
processor\t: 0
vendor_id\t: GenuineIntel
flags\t\t: fpu avx2 avx512f avx512_bf16
vmx flags\t: vnmi preemption_timer
bugs\t\t: spectre_v1

processor\t: 1
flags\t\t: fpu amx_bf16
"""
ARM = """\
processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd bf16
CPU implementer\t: 0x41
"""
NEITHER = """\
processor\t: 0
isa\t\t: rv64imafdc
mmu\t\t: sv39
"""

NATIVE = ["avx512_bf16", "amx_bf16", "bf16"]


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file in the place of /proc/cpuinfo. What was read of the real one is forgotten, and that of this one after."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(cpu, "_CPUINFO", path)
    cpu_flags.cache_clear()
    yield path
    cpu_flags.cache_clear()


@pytest.mark.parametrize(
    ("content", "flags"),
    [
        pytest.param(X86, {"fpu", "avx2", "avx512f", "avx512_bf16"}, id="x86"),
        pytest.param(ARM, {"fp", "asimd", "bf16"}, id="arm"),
        pytest.param(NEITHER, set(), id="neither"),
        pytest.param("", set(), id="empty"),
        pytest.param("flags :\n", set(), id="no-flags"),
    ],
)
def test_the_flags_are_those_of_the_first_processor(cpuinfo: Path, content: str, flags: set[str]) -> None:
    cpuinfo.write_text(content)
    assert cpu_flags() == flags


def test_the_file_is_read_once(cpuinfo: Path) -> None:
    cpuinfo.write_text(ARM)
    first = cpu_flags()
    cpuinfo.unlink()
    assert cpu_flags() is first


@pytest.mark.parametrize("content", [X86, ARM], ids=["x86", "arm"])
def test_a_processor_with_bfloat16_instructions_is_accepted(cpuinfo: Path, content: str) -> None:
    cpuinfo.write_text(content)
    require_native_bfloat16()
    assert computes("bfloat16")


@pytest.mark.parametrize(
    "content", [X86.replace("avx512_bf16", "avx512_vnni"), ARM.replace("bf16", ""), NEITHER], ids=["x86", "arm", "none"]
)
def test_a_processor_without_them_is_refused_with_what_to_do(cpuinfo: Path, content: str) -> None:
    cpuinfo.write_text(content)
    with pytest.raises(UnusableError, match=r"no bfloat16 instructions .*float32 archive"):
        require_native_bfloat16()
    assert not computes("bfloat16")
    assert computes("float32")
    assert computes("int8")


def source(folder: Path, runtime: RuntimeName, precision: Precision, device: str = "cpu") -> Source:
    """What to load of an archive in a precision, which need not be that of the archive."""
    recipe = read_recipe(TINY_RECIPE)
    return Source(
        directory=folder,
        serialized_file={"eager": "tiny.pth"}.get(runtime, "tiny.xml"),
        recipe=recipe,
        variant=recipe.variant(runtime, precision),
        threads=1,
        device=device,
    )


RUNTIMES: list[RuntimeName] = ["eager", "openvino"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_refuses_bfloat16_that_the_processor_would_emulate(
    tiny_archive: Callable[..., Path], runtime: RuntimeName, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_archive(runtime, "no-archive")
    monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset({"avx2", "avx512f", "avx512_vnni"}))
    with pytest.raises(UnusableError, match="no bfloat16 instructions"):
        load_runtime(source(folder, runtime, "bfloat16"))


@pytest.mark.parametrize("flag", NATIVE)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_accepts_bfloat16_with_any_of_its_instructions(
    tiny_archive: Callable[..., Path], runtime: RuntimeName, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_archive(runtime, "no-archive")
    monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset({"fpu", flag}))
    forward = load_runtime(source(folder, runtime, "bfloat16"))
    assert forward(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 10)


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [("eager", "float32"), ("eager", "float16"), ("openvino", "float32"), ("openvino", "int8")],
)
def test_other_precisions_need_no_bfloat16_instructions(
    tiny_archive: Callable[..., Path], runtime: RuntimeName, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_archive(runtime, "no-archive", precision)
    monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset({"avx2"}))
    forward = load_runtime(source(folder, runtime, precision))
    assert forward(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 10)


def test_a_gpu_computes_in_bfloat16_whatever_the_processor_can(
    tiny_archive: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[object] = []

    def move(module: torch.nn.Module, to: object = None, **_: object) -> torch.nn.Module:
        moved.append(to)  # there need be no GPU here
        return module

    folder = tiny_archive("eager", "no-archive")
    monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(torch.nn.Module, "to", move)
    load_runtime(source(folder, "eager", "bfloat16", "cuda:0"))
    assert moved == [torch.bfloat16, "cuda:0", None]


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        pytest.param({"cpu.max": "200000 100000\n"}, 2, id="two"),
        pytest.param({"cpu.max": "150000 100000\n"}, 2, id="one and a half"),
        pytest.param({"cpu.max": "10000 100000\n"}, 1, id="a tenth"),
        pytest.param({"cpu.max": "800000 100000\n"}, 4, id="more than there are"),
        pytest.param({"cpu.max": "max 100000\n"}, 4, id="no limit"),
        pytest.param({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3, id="version 1"),
        pytest.param({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4, id="version 1, none"),
        pytest.param({}, 4, id="no cgroups"),
    ],
)
def test_a_containers_quota_limits_the_cores(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(cpu, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    assert usable_cores() == cores
