import importlib.util
import platform
import subprocess
import sys
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from classifier import resample as module
from classifier.input import Interpolation
from classifier.resample import Box, Size, resample, with_pillow, with_vectors
from numpy.typing import NDArray
from packaging.requirements import Requirement
from PIL import Image

from scripts.building.golden import photograph
from tests.unit.test_makefile import ROOT

PILLOWS: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
# How far a level may be from Pillow's, and on what share of a photograph's values.
LEVELS: dict[Interpolation, int] = {"bilinear": 1, "bicubic": 2, "lanczos": 2, "nearest": 255}
SHARES: dict[Interpolation, float] = {"bilinear": 0.005, "bicubic": 0.01, "lanczos": 0.015, "nearest": 0.1}
interpolated = pytest.mark.parametrize("interpolation", PILLOWS)
shaped = pytest.mark.parametrize(
    ("size", "whole"),
    [
        ((500, 375), (341, 256)),
        ((375, 500), (256, 341)),
        ((450, 1000), (256, 568)),  # so high that Pillow begins with the height
        ((1000, 250), (1024, 256)),
        ((64, 48), (341, 256)),
        ((120, 400), (256, 853)),
        ((500, 375), (160, 96)),
    ],
    ids=lambda size: "{}x{}".format(*size),
)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """1000 x 1000 RGB."""
    with Image.open(photograph("coffee.png")) as image:
        return image.convert("RGB").resize((1000, 1000), Image.Resampling.BICUBIC)


def differences(ours: Image.Image, reference: Image.Image) -> NDArray[np.int64]:
    assert (ours.mode, ours.size) == (reference.mode, reference.size)
    found: NDArray[np.int64] = np.abs(np.asarray(ours).astype(int) - np.asarray(reference).astype(int))
    return found


def middle(size: Size, whole: Size, crop: Size) -> tuple[Box, tuple[int, int, int, int]]:
    """The same middle of a picture: in its own pixels, and in those of the resized whole."""
    left, top = ((side - part) // 2 for side, part in zip(whole, crop, strict=True))
    pixels = (left, top, left + crop[0], top + crop[1])
    across, down = size[0] / whole[0], size[1] / whole[1]
    return (pixels[0] * across, pixels[1] * down, pixels[2] * across, pixels[3] * down), pixels


@pytest.mark.parametrize("mode", ["RGB", "L"])
@interpolated
@shaped
def test_a_part_is_what_pillow_makes_of_it_with_the_whole(
    photo: Image.Image, size: Size, whole: Size, interpolation: Interpolation, mode: str
) -> None:
    image = photo.crop((100, 0, 100 + size[0], size[1])).convert(mode)
    crop = (whole[0] * 3 // 4, whole[1] * 3 // 4)
    box, pixels = middle(size, whole, crop)
    found = differences(
        resample(image, box, crop, interpolation), image.resize(whole, PILLOWS[interpolation]).crop(pixels)
    )
    assert found.max() <= LEVELS[interpolation]
    assert (found > 0).mean() <= SHARES[interpolation]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@shaped
def test_where_there_is_no_wheel_pillow_resizes(
    photo: Image.Image, monkeypatch: pytest.MonkeyPatch, size: Size, whole: Size, interpolation: Interpolation
) -> None:
    monkeypatch.setattr(module, "_resized", with_pillow)
    image = photo.crop((100, 0, 100 + size[0], size[1]))
    crop = (whole[0] * 3 // 4, whole[1] * 3 // 4)
    box, pixels = middle(size, whole, crop)
    found = differences(
        resample(image, box, crop, interpolation), image.resize(whole, PILLOWS[interpolation]).crop(pixels)
    )
    assert found.max() <= 2
    assert (found > 0).mean() <= 0.02


@pytest.mark.parametrize("size", [(64, 48), (48, 64)])
def test_edges_may_be_fractions_of_a_pixel(size: Size) -> None:
    """On a slope, a linear filter gives the levels at the centres of the pixels, wherever the box lies."""
    width, height = size
    slope = np.add.outer(np.arange(height) * 2, np.arange(width)).astype(np.uint8)
    left, top, right, bottom = box = (10.3, 12.8, 33.7, 29.1)
    found = np.asarray(resample(Image.fromarray(slope), box, (31, 23), "bilinear")).astype(float)
    across = left + (np.arange(31) + 0.5) * (right - left) / 31 - 0.5
    down = top + (np.arange(23) + 0.5) * (bottom - top) / 23 - 0.5
    assert np.abs(found - np.add.outer(2 * down, across)).max() <= 1


@pytest.mark.parametrize("interpolation", get_args(Interpolation))
@pytest.mark.parametrize("extent", [(1127.5, 749.25), (1127.875, 750.0)])
def test_the_last_pixel_of_a_picture_that_was_decoded_smaller_may_count_only_in_part(
    photo: Image.Image, interpolation: Interpolation, extent: tuple[float, float]
) -> None:
    image = photo.resize((1128, 750))
    found = resample(image, (0, 0, *extent), (224, 149), interpolation)
    expected = image.resize((224, 149), PILLOWS[interpolation], (0, 0, *extent))
    assert (differences(found, expected) > LEVELS[interpolation]).mean() == 0
    assert (differences(found, expected) > 0).mean() <= SHARES[interpolation]


def test_an_edge_that_rounding_puts_behind_the_last_pixel_is_the_last_pixel() -> None:
    image = Image.new("RGB", (7, 5), "teal")
    behind = np.nextafter(7.0, 8.0)
    assert resample(image, (1 / 3, 0.1, behind, 5.0), (4, 4), "bilinear").getcolors() == [(16, (0, 128, 128))]


def test_the_picture_stays_as_it_is(photo: Image.Image) -> None:
    before = photo.tobytes()
    resample(photo, (0, 0, 1000, 1000), (1000, 1000), "bilinear").putpixel((0, 0), (1, 2, 3))
    assert photo.tobytes() == before


@pytest.mark.parametrize("extensions", ["none", "sse4_1"])
@interpolated
def test_a_processor_without_the_vector_instructions_makes_the_same_levels(
    photo: Image.Image, monkeypatch: pytest.MonkeyPatch, extensions: str, interpolation: Interpolation
) -> None:
    from cykooz_resizer import CpuExtensions, Resizer

    def older() -> Resizer:
        resizer = Resizer()
        resizer.cpu_extensions = CpuExtensions[extensions]
        return resizer

    box = (10.5, 20.25, 900.0, 777.7)
    expected = resample(photo, box, (224, 200), interpolation)
    monkeypatch.setattr(module, "Resizer", older)
    assert resample(photo, box, (224, 200), interpolation).tobytes() == expected.tobytes()


@interpolated
def test_several_threads_resize_at_once(photo: Image.Image, interpolation: Interpolation) -> None:
    box = (3.0, 5.5, 990.0, 980.0)
    expected = resample(photo, box, (224, 224), interpolation).tobytes()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: resample(photo, box, (224, 224), interpolation).tobytes(), range(40)))
    assert set(found) == {expected}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_it_starts_no_threads_and_goes_on_in_a_fork() -> None:
    program = """
import os
from PIL import Image
from classifier.resample import resample
def threads(): return len(os.listdir("/proc/self/task"))
before = threads()
image = Image.new("RGB", (4000, 3000))
for interpolation in ("bilinear", "nearest"):
    resample(image, (0, 0, 4000, 3000), (1500, 1100), interpolation)
assert threads() == before, (before, threads())
child = os.fork()
resample(image, (0, 0, 4000, 3000), (1500, 1100), "bilinear")
if not child:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "7\n"


@pytest.mark.parametrize(
    ("system", "machine", "resizes"),
    [
        ("linux", "x86_64", with_vectors),
        ("linux", "aarch64", with_pillow),
        ("darwin", "arm64", with_vectors),
        ("win32", "AMD64", with_vectors),
    ],
)
def test_the_package_is_required_where_it_is_used(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, resizes: Callable[..., Image.Image]
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    spec = importlib.util.spec_from_file_location("resample_elsewhere", Path(module.__file__))
    assert spec is not None
    assert spec.loader is not None
    elsewhere = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(elsewhere)
    assert elsewhere._resized.__name__ == resizes.__name__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (required,) = [line for line in map(Requirement, project["dependencies"]) if line.name == "cykooz-resizer"]
    assert required.marker is not None
    environment = {"sys_platform": system, "platform_machine": machine}
    assert required.marker.evaluate(environment) == elsewhere.HAS_WHEEL == (resizes is with_vectors)
