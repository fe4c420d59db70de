"""The C++ program: built against this environment's torch, held to Python's logits."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classifier.pipeline import load_pixels
from PIL import Image

from scripts.archives.loaded import loaded
from tests.conftest import encode
from tests.integration.conftest import CHECKOUT, PHOTOGRAPHS, STORE, make

LITE0 = "efficientnet_lite0"
BUNDLE = CHECKOUT / "bundles" / LITE0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for path in PHOTOGRAPHS:
        shutil.copy(path, folder)
    result = make("cpp", f"MODEL={LITE0}", f"GOLDEN={folder}")
    assert result.returncode == 0, result.stdout + result.stderr
    return CHECKOUT / "edge/cpp/build/classify"


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def answers(result: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def pictures(folder: Path) -> list[Path]:
    """The photographs, and what is harder: lying, grey, see-through, and large enough for a scaled decode."""
    with Image.open(PHOTOGRAPHS[1]) as opened:
        coffee = opened.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 8
    see_through = coffee.copy()
    see_through.putalpha(Image.linear_gradient("L").resize(coffee.size))
    odd = {
        "lying.jpg": encode(coffee, "JPEG", quality=95, exif=exif),
        "grey.jpg": encode(coffee.convert("L"), "JPEG"),
        "grey.png": encode(coffee.convert("L"), "PNG"),
        "palette.png": encode(coffee.quantize(64), "PNG"),
        "large.jpg": encode(coffee.resize((3001, 2003)), "JPEG"),
        "half.jpg": encode(coffee.resize((1501, 1203)), "JPEG"),
        "thin.png": encode(coffee.resize((40, 900)), "PNG"),
        "progressive.jpg": encode(coffee, "JPEG", progressive=True),
        "tiny.png": encode(coffee.resize((7, 5)), "PNG"),
    }
    for name, content in odd.items():
        (folder / name).write_bytes(content)
    (folder / "see-through.png").write_bytes(encode(see_through, "PNG"))
    return [*PHOTOGRAPHS, *sorted(folder.iterdir())]


def test_its_logits_are_pythons(program: Path, tmp_path: Path) -> None:
    paths = pictures(tmp_path)
    result = run(program, BUNDLE, *paths, "--logits")
    assert result.returncode == 0, result.stderr
    with loaded(STORE / f"{LITE0}-torchscript-2.0.mar") as classifier:
        for path, answer in zip(paths, answers(result), strict=True):
            expected = classifier.classify([path.read_bytes()], [5])[0]
            pixels = load_pixels(path.read_bytes(), classifier.recipe.input)
            assert isinstance(pixels, np.ndarray)
            logits = classifier.logits(pixels[None])[0]
            assert answer["logits"] == pytest.approx(logits.tolist(), abs=1e-4), path.name
            found = [item["class_id"] for item in answer["predictions"]]
            assert found == [item.class_id for item in expected], path.name  # type: ignore[union-attr]


def test_its_answer_has_the_contracts_fields(program: Path) -> None:
    (answer,) = answers(run(program, BUNDLE, PHOTOGRAPHS[0]))
    assert answer["predictions"][0]["class_name"] == "Egyptian cat"
    assert answer["predictions"][0].keys() == {"class_id", "class_name", "probability"}
    assert answer["model"]["runtime"] == "torchscript"
    assert "logits" not in answer


def test_a_bad_picture_has_a_code_and_the_next_one_its_answer(program: Path, tmp_path: Path) -> None:
    rocket = PHOTOGRAPHS[2].read_bytes()
    bad = {"empty": b"", "text": b"no picture", "cut.jpg": rocket[:3000], "cut.png": PHOTOGRAPHS[0].read_bytes()[:9000]}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    result = run(program, BUNDLE, *(tmp_path / name for name in bad), tmp_path / "none", PHOTOGRAPHS[0])
    assert result.returncode == 1
    codes = [answer.get("code") for answer in answers(result)]
    assert codes == ["empty_body", "not_an_image", "image_broken", "image_broken", "not_found", None]


def test_a_wrong_command_line_says_what_is_expected(program: Path, tmp_path: Path) -> None:
    for arguments in ((), (BUNDLE,), (BUNDLE, PHOTOGRAPHS[0], "--unknown")):
        result = run(program, *arguments)
        assert result.returncode == 2
        assert "usage: classify <bundle> <picture>" in result.stderr
    result = run(program, tmp_path, PHOTOGRAPHS[0])
    assert result.returncode == 1
    assert "is not a bundle" in result.stderr
    assert "make bundle" in result.stderr


def test_the_bundles_golden_vectors_fit_each_other(program: Path) -> None:
    bundle = json.loads((BUNDLE / "bundle.json").read_text())
    assert bundle["input"]["mean"] == [0.5, 0.5, 0.5]
    assert len(bundle["labels"]) == 1000
    for path in PHOTOGRAPHS:
        tensor = np.load(BUNDLE / "golden" / f"{path.stem}.npy")
        assert (tensor.shape, tensor.dtype) == ((3, 224, 224), np.float32)
        answer = json.loads((BUNDLE / "golden" / f"{path.stem}.json").read_text())
        best = int(np.argmax(answer["logits"]))
        assert answer["predictions"][0]["class_id"] == bundle["labels"][best]["class_id"]
