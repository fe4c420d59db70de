"""The Android app: its pure module compiled and run on Python's answers, its files beside the views type-checked.

The compiler is the one that the Kotlin kernel of Jupyter carries. The views, Gradle's files and the iOS app are only
parsed, by tests/unit/edge/test_mobile_sources.py: that needs neither an Android SDK nor a Swift compiler.
"""

import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import pytest
from classifier.input import Interpolation
from classifier.pipeline import Classifier
from msgspec.structs import replace
from PIL import Image

from edge.bundle import BUNDLE_FILE, constants, write_bundle, write_golden
from scripts.archives.loaded import loaded
from scripts.archives.store import find_archive
from scripts.building.golden import photograph
from scripts.setup.system_packages import JARS
from scripts.torchserve.java import find_java_home
from tests.integration.conftest import CHECKOUT, PHOTOGRAPHS, STORE

pytestmark = pytest.mark.thorough

ANDROID = CHECKOUT / "edge/android"
KIT = ANDROID / "classifier-kit/src"
SIGNATURES = Path(__file__).parent / "android"
ORG_JSON, JUNIT, HAMCREST = (JARS / f"{name}.jar" for name in ("json-android", "junit4", "hamcrest-core"))


def java(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = find_java_home() / "bin" / "java"
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)


def compiler_jars() -> list[Path]:
    package = find_spec("run_kotlin_kernel")
    assert package is not None
    assert package.submodule_search_locations is not None
    return sorted(Path(package.submodule_search_locations[0], "jars").glob("*.jar"))


def standard_library() -> Path:
    return next(jar for jar in compiler_jars() if jar.name.startswith("kotlin-stdlib"))


def class_path(*jars: Path) -> str:
    return ":".join(map(str, jars))


def kotlin(sources: list[Path], classes: Path, *libraries: Path) -> subprocess.CompletedProcess[str]:
    """Compile; a warning is an error."""
    options = ["-Werror", "-no-stdlib", "-no-reflect", "-cp", class_path(standard_library(), *libraries), "-d", classes]
    compiler = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
    return java("-cp", class_path(*compiler_jars()), compiler, *options, *sources)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pure module's classes and those of its tests."""
    if not all(jar.exists() for jar in (ORG_JSON, JUNIT)):
        pytest.skip("JUnit or org.json is not installed; `make setup-system` says how")
    classes = tmp_path_factory.mktemp("kit")
    result = kotlin(sorted(KIT.rglob("*.kt")), classes, ORG_JSON, JUNIT)
    assert result.returncode == 0, result.stderr
    return classes


def run_tests(kit: Path, bundle: Path, *names: str) -> subprocess.CompletedProcess[str]:
    libraries = class_path(kit, standard_library(), ORG_JSON, JUNIT, HAMCREST)
    classes = [f"classifier.{name}" for name in names]
    return java(f"-Dbundle={bundle}", "-cp", libraries, "org.junit.runner.JUnitCore", *classes)


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a real model."""
    bundle = tmp_path_factory.mktemp("bundle")
    with loaded(find_archive("efficientnet_lite0-torchscript", STORE).path) as classifier:
        write_bundle(classifier, bundle, PHOTOGRAPHS)
    return bundle


def test_its_own_tests_pass_on_a_real_models_golden_vectors(kit: Path, lite0: Path) -> None:
    result = run_tests(kit, lite0, "KitTest", "GoldenTest")
    assert result.returncode == 0, result.stdout
    assert "OK (12 tests)" in result.stdout


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pictures_of_all_shapes_become_pythons_tensors(
    interpolation: Interpolation, kit: Path, tiny: Classifier, tmp_path: Path
) -> None:
    spec = replace(tiny.recipe.input, interpolation=interpolation)
    classifier = replace(tiny, recipe=replace(tiny.recipe, input=spec))
    (tmp_path / "golden").mkdir()
    (tmp_path / BUNDLE_FILE).write_bytes(msgspec.json.encode(constants(classifier)))
    for path in pictures(tmp_path):
        write_golden(classifier, path, tmp_path / "golden")
    result = run_tests(kit, tmp_path, "GoldenTest")
    assert result.returncode == 0, result.stdout


def pictures(folder: Path) -> Iterator[Path]:
    """Upright, lying, tiny, thin, see-through."""
    with Image.open(photograph("coffee.png")) as opened:
        coffee = opened.convert("RGB")
    for size in ((333, 601), (601, 333), (33, 32), (7, 5), (40, 900), (900, 40), (1, 50)):
        path = folder / "{}x{}.png".format(*size)
        coffee.resize(size).save(path)
        yield path
    coffee.putalpha(Image.linear_gradient("L").resize(coffee.size))
    coffee.save(folder / "see-through.png")
    yield folder / "see-through.png"


def test_a_wrong_tensor_is_noticed(kit: Path, tiny: Classifier, tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    (tmp_path / BUNDLE_FILE).write_bytes(msgspec.json.encode(constants(tiny)))
    write_golden(tiny, photograph("coffee.png"), tmp_path / "golden")
    tensor = np.load(tmp_path / "golden/coffee.npy")
    tensor[1, 16, 16] += 0.01  # less than a level, 1 / 255 over the deviation
    np.save(tmp_path / "golden/coffee.npy", tensor)
    result = run_tests(kit, tmp_path, "GoldenTest")
    assert result.returncode == 1
    assert "photographs become the tensors" in result.stdout


def test_the_files_beside_the_views_fit_android_executorch_and_the_module(kit: Path, tmp_path: Path) -> None:
    app = ANDROID / "app/src/main/kotlin/classifier/app"
    sources = [app / "Classifier.kt", app / "Decode.kt", *sorted(SIGNATURES.glob("*.kt"))]
    result = kotlin(sources, tmp_path / "classes", kit, ORG_JSON)
    assert result.returncode == 0, result.stderr
    changed = tmp_path / "Classifier.kt"
    changed.write_text(sources[0].read_text().replace("bundle.rank(", "bundle.ranked("))
    result = kotlin([changed, *sources[1:]], tmp_path / "broken", kit, ORG_JSON)
    assert result.returncode != 0
    assert "unresolved reference 'ranked'" in result.stderr
