import gc
import io
import itertools
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from classifier import ImageClassifier, Prediction, Problem, load
from classifier.errors import BrokenArchiveError, UnusableError
from msgspec import structs
from PIL import Image

from tests.conftest import TINY_RECIPE, encode

every_runtime = pytest.mark.parametrize(
    "runtime",
    [
        "eager",
        "torchscript",
        "onnxruntime",
        "openvino",
        "ncnn",
        pytest.param("aotinductor", marks=pytest.mark.thorough),
    ],
)


@pytest.fixture(scope="module")
def model(tiny_archive: Callable[..., Path]) -> ImageClassifier:
    return load(tiny_archive())


def assert_alike(found: list[Prediction] | Problem, expected: list[Prediction]) -> None:
    """The same classes with the same probabilities; the size of a batch may change the last digits."""
    assert isinstance(found, list)
    assert [item.class_id for item in found] == [item.class_id for item in expected]
    assert [item.probability for item in found] == pytest.approx([item.probability for item in expected], abs=1e-6)


@pytest.mark.slow
def test_the_same_picture_in_every_form_has_the_same_predictions(
    model: ImageClassifier, cat: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(cat)
    picture = Image.open(io.BytesIO(cat))
    expected = model(cat)
    assert [type(item) for item in expected] == [Prediction] * len(expected)
    for form in (path, str(path), picture, np.asarray(picture), picture.convert("RGBA")):
        assert model(form) == expected
    assert model.core.identity.model.name in repr(model)


def test_many_pictures_come_back_in_order_and_a_broken_one_keeps_its_problem(
    model: ImageClassifier, cat: bytes, coffee: bytes
) -> None:
    found = model([cat, b"no picture", Image.open(io.BytesIO(coffee))], top_k=2)
    assert [found[0], found[2]] == model([cat, coffee], top_k=2)  # a batch of as many good ones: not a bit differs
    assert_alike(found[0], model(cat, top_k=2))
    assert_alike(found[2], model(coffee, top_k=2))
    assert isinstance(found[1], Problem)
    assert found[1].code == "not_an_image"
    assert model([]) == []


def test_a_model_of_few_classes_returns_all_of_them(model: ImageClassifier, cat: bytes) -> None:
    labels = model.core.labels[:3]
    few = structs.replace(
        model.core, labels=labels, forward=lambda pixels: np.tile(np.array([1, 3, 2], np.float32), (len(pixels), 1))
    )
    assert [item.class_id for item in ImageClassifier(few)(cat)] == [labels[index].class_id for index in (1, 2, 0)]


def test_an_array_of_pictures_is_a_batch(model: ImageClassifier, cat: bytes) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(cat)))
    assert model(np.stack([pixels, pixels[:, ::-1]])) == model([pixels, pixels[:, ::-1]])
    for found, alone in zip(model(np.stack([pixels, pixels[:, ::-1]])), (pixels, pixels[:, ::-1]), strict=True):
        assert_alike(found, model(alone))


def test_a_grey_array_is_a_grey_picture(model: ImageClassifier, cat: bytes) -> None:
    grey = Image.open(io.BytesIO(cat)).convert("L")
    assert model(np.asarray(grey)) == model(encode(grey, "PNG"))


def test_a_pillow_picture_is_turned_upright_and_stays_as_it_was(model: ImageClassifier, cat: bytes) -> None:
    upright = Image.open(io.BytesIO(cat)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encode(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    picture = Image.open(io.BytesIO(lying))
    size = picture.size
    assert model(picture) == model(upright)
    assert picture.size == size


def test_what_is_no_picture_says_what_is_one(model: ImageClassifier, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="begins with these bytes"):
        model(b"no picture")
    with pytest.raises(TypeError, match="float64 is not a picture: pass uint8"):
        model(np.zeros((8, 8, 3)))  # type: ignore[arg-type] # what is tested
    with pytest.raises(ValueError, match=r"\[3, 8, 8\] is not a picture: pass \[H,W,3\]"):
        model(np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"\[0, 8\] is not a picture"):
        model(np.zeros((0, 8), np.uint8))
    with pytest.raises(TypeError, match="int is not a picture"):
        model(7)  # type: ignore[call-overload] # what is tested
    with pytest.raises(FileNotFoundError):
        model(tmp_path / "none.jpg")
    with pytest.raises(Problem, match="from 1 to 10"):
        model([], top_k=0)
    with pytest.raises(Problem, match="from 1 to 10"):
        model([], top_k=11)


def test_a_picture_with_too_many_pixels_is_refused_however_it_comes(model: ImageClassifier) -> None:
    side = round(model.core.recipe.input.max_pixels**0.5) + 1
    with pytest.raises(Problem, match="more than the limit"):
        model(Image.new("1", (side, side)))


def test_a_truncated_file_opened_by_pillow_is_a_broken_picture(model: ImageClassifier, cat: bytes) -> None:
    with pytest.raises(Problem) as caught:
        model(Image.open(io.BytesIO(cat[: len(cat) // 2])))
    assert caught.value.code == "image_broken"


def test_a_recipe_with_weights_is_the_same_model_as_its_archive(
    model: ImageClassifier, tiny_weights: Path, cat: bytes
) -> None:
    own = load(TINY_RECIPE, weights=tiny_weights)
    assert own(cat) == model(cat)
    assert own.core.identity.model == model.core.identity.model
    assert own.core.identity.weights_sha256 == model.core.identity.weights_sha256


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda item: item.to(torch.int8), "tensors hold other numbers than the architecture's, the first .*int8"),
        (lambda item: item * torch.nan, "gives outputs that are not finite numbers"),
    ],
)
def test_weights_that_a_build_refuses_are_refused_here_too(
    spoil: Callable[[torch.Tensor], torch.Tensor], why: str, tiny_weights: Path, tmp_path: Path
) -> None:
    state_dict = torch.load(tiny_weights, weights_only=True)
    torch.save(
        {name: spoil(item) if item.is_floating_point() else item for name, item in state_dict.items()},
        tmp_path / "own.pth",
    )
    threads = torch.get_num_threads()
    with pytest.raises(UnusableError, match=why):
        load(TINY_RECIPE, weights=tmp_path / "own.pth", threads=threads)
    assert torch.get_num_threads() == threads


def test_labels_of_another_number_than_the_models_are_refused(tiny_weights: Path, tmp_path: Path) -> None:
    fields = yaml.safe_load(TINY_RECIPE.read_text()) | {"labels": ["cat", "dog"]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(fields))
    with pytest.raises(UnusableError, match=r"does not compute: logits \[1, 10\] for 1 pictures and 2 labels"):
        load(tmp_path / "tiny.yaml", weights=tiny_weights)


def test_a_folder_is_an_archive_too(tiny_folder: Path, model: ImageClassifier, cat: bytes) -> None:
    assert load(tiny_folder)(cat) == model(cat)


def test_what_cannot_be_loaded_says_why(tiny_archive: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="is a recipe: pass `weights=`"):
        load(TINY_RECIPE)
    with pytest.raises(UnusableError, match="weights of its own"):
        load(tiny_archive(), weights="own.pth")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.mar")
    cut = tmp_path / "cut.mar"
    cut.write_bytes(tiny_archive().read_bytes()[:-100])
    with pytest.raises(BrokenArchiveError, match=r"cut\.mar"):
        load(cut)


@pytest.mark.slow
def test_the_unpacked_files_go_when_the_model_does(
    tiny_archive: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cat: bytes
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = load(tiny_archive())
    assert len(list(tmp_path.glob("archive-*"))) == 1
    model(cat)
    del model
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_closed_model_leaves_no_files_and_says_that_it_is_closed(
    tiny_archive: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cat: bytes
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with load(tiny_archive()) as model:
        expected = model(cat)
        with load(tiny_archive()) as another:
            assert another(cat) == expected
        assert len(list(tmp_path.iterdir())) == 1  # only the other one's are gone
        assert model(cat) == expected
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UnusableError, match=r"<tiny 1\.0, .*> was closed: load\(\) it again"):
        model(cat)
    model.close()


@pytest.mark.parametrize(
    "calls", [pytest.param(60, marks=pytest.mark.slow), pytest.param(500, marks=pytest.mark.thorough)]
)
@every_runtime
def test_each_thread_gets_the_answer_to_its_own_picture(
    runtime: str, calls: int, tiny_archive: Callable[..., Path]
) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 3), np.uint8)
    alone = list(map(load(tiny_archive(runtime), threads=1), pictures))
    shares = [{item.class_id: item.probability for item in load_all} for load_all in alone]
    for one, other in itertools.combinations(shares, 2):
        assert one != pytest.approx(other, abs=1e-3)  # nobody's answer could be taken for another's
    model, together = load(tiny_archive(runtime), threads=1), threading.Barrier(8)

    def wrong(own: int) -> int:
        together.wait()  # the first calls too, in which a library may still prepare
        found = ({item.class_id: item.probability for item in model(pictures[own])} for _ in range(calls))
        return sum(answer != pytest.approx(shares[own], abs=1e-6) for answer in found)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(wrong, range(8))) == [0] * 8


def test_a_broken_archive_leaves_no_files(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.make_archive(str(tmp_path / "bad"), "zip", tiny_folder)
    bad = (tmp_path / "bad.zip").rename(tmp_path / "bad.mar")
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 1
    bad.write_bytes(content)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(BrokenArchiveError):
        load(bad)
    assert list(tmp_path.glob("archive-*")) == []


@pytest.mark.slow
def test_a_part_of_the_core_does_not_import_torch() -> None:
    code = "import sys, classifier.recipe; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
