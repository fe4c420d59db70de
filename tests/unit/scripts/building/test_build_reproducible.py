"""The same input gives the same bytes, and they name no folder of the machine that built them."""

import shutil
import sys
from pathlib import Path
from typing import get_args

import pytest
from msgspec.structs import replace

from scripts.archives.format import Format
from scripts.building.build import build
from scripts.building.options import Options
from tests.conftest import path_of
from tests.unit.conftest import command, contents, start


def twice(options: Options) -> list[Options]:
    """The same build from a cache and into a store of its own each time."""
    return [replace(options, store=options.store / name, cache=options.cache / name) for name in ("one", "another")]


def assert_no_trace(path: Path, folder: Path) -> None:
    for name, data in contents(path).items():
        for place in (Path.cwd(), folder, Path(sys.prefix), Path.home()):
            assert len(place.parts) < 3 or str(place).encode() not in data, f"{place} is in {name}"


@pytest.mark.parametrize("archive_format", get_args(Format))
def test_two_builds_of_the_same_are_the_same_and_tell_nothing_of_this_machine(
    archive_format: Format, options: Options, tmp_path: Path
) -> None:
    one, another = (build(item)[0] for item in twice(replace(options, archive_format=archive_format)))
    if archive_format == "no-archive":
        assert contents(one) == contents(another)
    else:
        assert one.read_bytes() == another.read_bytes()
    assert_no_trace(one, tmp_path)


# torch numbers the classes that it traces in one process, so here each build has a process of its own, as with make
@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "archive_format", "hash_seeds"),
    [("trace", "tgz", ("0", "0")), pytest.param("script", "zip-store", ("1", "2"), marks=pytest.mark.thorough)],
)
def test_two_builds_of_torchscript_are_the_same_whatever_the_hash_seed(
    method: str, archive_format: Format, hash_seeds: tuple[str, str], options: Options, tmp_path: Path
) -> None:
    chosen = {"runtime": "torchscript", "torchscript": method, "archive_format": archive_format}
    builds = twice(replace(options, **chosen))
    running = [start(command(item), seed) for item, seed in zip(builds, hash_seeds, strict=True)]
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    one, another = (path_of(item) for item in builds)
    assert one.read_bytes() == another.read_bytes()
    assert_no_trace(one, tmp_path)


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [
        pytest.param("eager", "float16", marks=pytest.mark.thorough),
        pytest.param("onnxruntime", "float32", marks=pytest.mark.thorough),
        pytest.param("openvino", "float32", marks=pytest.mark.thorough),
        pytest.param("openvino", "int8", marks=pytest.mark.thorough),
        pytest.param("ncnn", "float32", marks=pytest.mark.thorough),
    ],
)
def test_two_builds_of_other_runtimes_are_the_same_and_tell_nothing_of_this_machine(
    runtime: str, precision: str, options: Options, tmp_path: Path
) -> None:
    builds = twice(replace(options, runtime=runtime, precision=precision))
    running = [start(command(item), "0") for item in builds]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    one, another = (path_of(item) for item in builds)
    different = [name for name, data in contents(one).items() if contents(another)[name] != data]
    assert different == []
    assert one.read_bytes() == another.read_bytes()
    assert_no_trace(one, tmp_path)


@pytest.mark.thorough
@pytest.mark.slow
def test_two_builds_of_aotinductor_are_the_same_and_tell_nothing_of_this_machine(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "compiled"  # emptied in between, or the second build would find what the first compiled
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache))
    built = []
    for item in twice(replace(options, runtime="aotinductor")):
        process = start(command(item), "0")
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        built.append(path_of(item))
        assert any(cache.rglob("*.so"))
        shutil.rmtree(cache)
    one, another = built
    different = [name for name, data in contents(one).items() if contents(another)[name] != data]
    assert different == []
    assert one.read_bytes() == another.read_bytes()
    assert_no_trace(one, tmp_path)
