"""VGG16's own archives: the same bytes from every build, the same logits from every export."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from classifier.pipeline import Classifier
from classifier.recipe import read_recipe
from numpy.typing import NDArray

from scripts.building.golden import golden_pixels, golden_set
from tests.integration.conftest import CHECKOUT, STORE, make

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("vgg16_archives")]


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return golden_pixels(golden_set(), read_recipe(CHECKOUT / "recipes/vgg16.yaml"))


def logits(archive: Path, pixels: NDArray[np.uint8], folder: Path) -> NDArray[np.float32]:
    """The logits [N,1000] of an archive's model, unpacked as TorchServe does."""
    shutil.unpack_archive(archive, folder, "zip")
    try:
        classifier = Classifier.load(folder)
        return classifier.logits(pixels)
    finally:
        shutil.rmtree(folder)


def test_a_build_in_another_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    result = make("archive", f"STORE={tmp_path}")
    assert result.returncode == 0, result.stderr
    for name in ("vgg16-eager.mar", "vgg16-torchscript.mar"):
        assert sha256(tmp_path / name) == sha256(STORE / name)
        (tmp_path / name).unlink()


def test_eager_traced_and_scripted_agree_on_the_golden_set(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    result = make("archive", f"STORE={tmp_path}", "RUNTIME=torchscript", "TORCHSCRIPT=script")
    assert result.returncode == 0, result.stderr
    scripted = tmp_path / "vgg16-torchscript.mar"
    assert sha256(scripted) != sha256(STORE / scripted.name)
    results = [
        logits(archive, pixels, tmp_path / "unpacked")
        for archive in (STORE / "vgg16-eager.mar", STORE / "vgg16-torchscript.mar", scripted)
    ]
    assert results[0].std(axis=0).max() > 1e-3  # pictures are told apart, so the agreement means something
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-4, rtol=0)
        assert np.array_equal(other.argmax(axis=1), results[0].argmax(axis=1))


@pytest.mark.parametrize("runtime", ["eager", "torchscript"])
def test_an_archive_carries_its_parity_report(runtime: str) -> None:
    with zipfile.ZipFile(STORE / f"vgg16-{runtime}.mar") as archive:
        report = json.loads(archive.read("parity.json"))
        identity = json.loads(archive.read("identity.json"))
    assert report["pictures"] == len(golden_set())
    assert report["max_abs_logit"] <= report["tolerance"]["max_abs_logit"]
    assert report["top1_agreement"] == report["top5_agreement"] == 1.0
    assert report["weights_sha256"] == identity["weights_sha256"]
    assert report["tools"]["torch"].startswith("2.14.1")


def test_a_second_make_archive_does_nothing() -> None:
    times = {path: path.stat().st_mtime_ns for path in STORE.glob("*.mar")}
    result = make("archive")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert {path: path.stat().st_mtime_ns for path in STORE.glob("*.mar")} == times
