import json
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from classifier.cpu import cpu_flags
from classifier.errors import UnusableError
from classifier.recipe import read_recipe
from classifier.runtimes import Source, aotinductor, load_runtime

from tests.conftest import TINY_RECIPE

METADATA = "wrapper_metadata.json"


@pytest.fixture(scope="module")
def package(tiny_archive: Callable[..., Path]) -> Path:
    """Tiny, compiled on this machine. Do not change it: copy it first."""
    return tiny_archive("aotinductor", "no-archive") / "tiny.pt2"


def contents(package: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(package) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def compiled_for(package: Path, names: str, folder: Path) -> Path:
    """A copy of a package that says it was compiled for other instruction sets."""
    path = folder / "tiny.pt2"
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in contents(package).items():
            changed = json.loads(content) | {"AOTI_CPU_ISA": names} if name.endswith(METADATA) else None
            packed.writestr(name, content if changed is None else json.dumps(changed))
    return path


def source(package: Path) -> Source:
    recipe = read_recipe(TINY_RECIPE)
    return Source(
        directory=package.parent,
        serialized_file=package.name,
        recipe=recipe,
        variant=recipe.variant("aotinductor", "float32"),
        threads=1,
    )


@pytest.mark.slow
def test_a_package_names_instruction_sets_that_this_processor_has(package: Path) -> None:
    (content,) = (content for name, content in contents(package).items() if name.endswith(METADATA))
    names = json.loads(content)["AOTI_CPU_ISA"].lower().split()
    assert names
    assert {{"avx512": "avx512f", "neon": "asimd"}.get(name, name) for name in names} <= cpu_flags()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ("AVX512 AVX512_VNNI AMX_TILE SSE99", "sse99"),
        ("SSE99", "sse99"),
        ("NO_SUCH SSE99", "no_such, sse99"),
    ],
)
def test_a_package_for_another_processor_is_refused_with_what_it_needs(
    package: Path, tmp_path: Path, names: str, missing: str
) -> None:
    path = compiled_for(package, names, tmp_path)
    with pytest.raises(UnusableError, match=rf"tiny\.pt2 .*{missing}, which this one lacks.*a machine like this"):
        load_runtime(source(path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "flags", "missing"),
    [
        ("AVX512 AVX512_VNNI", {"avx2", "avx512f", "avx512_vnni"}, None),
        ("AVX512 AVX512_VNNI", {"avx2", "avx512f"}, "avx512_vnni"),
        ("AVX512 AVX512_VNNI", {"avx2"}, "avx512, avx512_vnni"),
        ("AVX512 AVX512_VNNI AMX_TILE", {"avx512f", "avx512_vnni"}, "amx_tile"),
        ("AVX2", {"avx2"}, None),
        ("AVX2", {"sse4_2"}, "avx2"),
        ("NEON", {"fp", "asimd"}, None),
        ("ASIMD", {"fp", "asimd"}, None),
        ("ASIMD", {"fp"}, "asimd"),
        ("", set(), None),
    ],
)
def test_what_a_package_needs_is_held_to_what_the_processor_has(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: str, flags: set[str], missing: str | None
) -> None:
    path = compiled_for(package, names, tmp_path)
    monkeypatch.setattr(aotinductor, "cpu_flags", lambda: frozenset(flags))
    if missing is None:
        assert load_runtime(source(path))(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 10)
    else:
        with pytest.raises(UnusableError, match=rf"with {missing}, which"):
            load_runtime(source(path))


@pytest.mark.slow
def test_a_package_has_no_sources_in_it(package: Path) -> None:
    names = list(contents(package))
    assert [name for name in names if Path(name).suffix in (".cpp", ".h", ".py", ".txt")] == []
    assert len([name for name in names if name.endswith(".so")]) == 1


@pytest.mark.slow
def test_the_metadata_of_a_package_tells_nothing_of_this_machine(package: Path) -> None:
    told = {name: content for name, content in contents(package).items() if not name.endswith(".so")}
    assert any(name.endswith(METADATA) for name in told)
    text = b"\n".join([*(name.encode() for name in told), *told.values()])
    for place in (Path.cwd(), Path(sys.prefix), Path.home(), package.parents[2]):
        assert str(place).encode() not in text
    assert re.search(rb"(^|[\s\"'])/\w", text) is None


def test_a_zip_without_metadata_is_no_package(tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt2"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("data.txt", "nothing")
    with pytest.raises(UnusableError, match=r"tiny\.pt2 is not an AOTInductor package"):
        load_runtime(source(path))


@pytest.mark.slow
@pytest.mark.parametrize("content", ["no json", "[]", "3", '{"AOTI_CPU_ISA": 3}'])
def test_metadata_that_cannot_be_read_is_no_packages(package: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "tiny.pt2"
    with zipfile.ZipFile(path, "w") as packed:
        for name, data in contents(package).items():
            packed.writestr(name, content if name.endswith(METADATA) else data)
    with pytest.raises(UnusableError, match=r"tiny\.pt2"):
        load_runtime(source(path))


@pytest.mark.slow
def test_a_package_whose_library_is_damaged_is_refused_by_name(package: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt2"
    with zipfile.ZipFile(path, "w") as packed:
        for name, data in contents(package).items():
            packed.writestr(name, b"no library" if name.endswith(".so") else data)
    with pytest.raises(UnusableError, match=r"tiny\.pt2"):
        load_runtime(source(path))
