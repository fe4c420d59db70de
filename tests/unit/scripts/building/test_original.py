"""The model as its owner runs it: what every archive is compared with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from classifier.normalization import normalize
from classifier.recipe import Recipe, read_recipe
from classifier.runtimes.eager import load_module
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from scripts.building.download import file_digest
from scripts.building.original import Original, of_module, original
from scripts.building.weights import Weights
from scripts.console import UserError
from tests.conftest import TINY_RECIPE

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.drop = nn.Dropout(0.5)
        {init}

    def forward(self, pixels):
        logits = self.drop(self.fc(pixels.mean((2, 3))))
        return {result}
"""
STATE_DICT = {"fc.weight": torch.tensor([[1.0, 2, 3], [4, 5, 6]]), "fc.bias": torch.tensor([7.0, 8])}
WHITE = np.full((3, 4, 4, 3), 255, np.uint8)
LOGITS = [13.0, 23.0]  # of white, which is 1 in each channel

Loaded = Callable[..., Original]


def recipe(**fields: Any) -> Recipe:
    given = {"name": "own", "labels": ["a", "b"], "input": {"crop": 4, "normalization": {}}} | fields
    if "program" not in given:
        given = {"architecture": "own_original", "weights": "own-0123abcd.pth"} | given
    return msgspec.convert(given, Recipe)


def weights(path: Path, entry: str | None = None, prefix: str | None = None) -> Weights:
    return Weights(path.stem, path, file_digest(path), entry, prefix)


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """Load the small network above, with something more in its constructor or another result."""
    monkeypatch.syspath_prepend(tmp_path)

    def load(init: str = "", result: str = "logits", checkpoint: object = STATE_DICT, **how: str) -> Original:
        monkeypatch.delitem(__import__("sys").modules, "own_original", raising=False)
        (tmp_path / "own_original.py").write_text(NET.format(init=init, result=result))
        torch.save(checkpoint, tmp_path / "own.pth")
        return original(recipe(), weights(tmp_path / "own.pth", **how))

    return load


def test_it_computes_in_evaluation_mode_one_picture_at_a_time(loaded: Loaded) -> None:
    model = loaded(result="logits * len(pixels)")
    assert model.outputs(WHITE).tolist() == [LOGITS] * 3
    assert model.outputs(WHITE).dtype == np.float32
    assert not any(parameter.requires_grad for parameter in model.module.parameters())


@pytest.mark.parametrize("result", ["(logits, pixels)", "{'aux': pixels, 'logits': logits}", "[logits]"])
def test_a_model_that_gives_more_than_logits_gives_them_first_or_by_name(result: str, loaded: Loaded) -> None:
    assert loaded(result=result).outputs(WHITE).tolist() == [LOGITS] * 3


@pytest.mark.parametrize(
    "init",
    [
        "self.register_buffer('factor', nn.init.constant_(torch.empty(2), 3.0), persistent=False)",
        "self.register_buffer('factor', torch.empty(2), persistent=False); nn.init.constant_(self.factor, 3.0)",
        "self.factor = nn.init.constant_(torch.empty(2), 3.0)",
        "self.register_buffer('factor', torch.full((2,), 3.0), persistent=False)",
    ],
    ids=["made by init", "filled by init", "a plain tensor", "full"],
)
def test_what_the_checkpoint_does_not_bring_is_as_in_a_fresh_program_in_the_archive_too(
    init: str, loaded: Loaded, tmp_path: Path
) -> None:
    """Parity alone would not see it: model and archive would share the fault."""
    torch.empty(2).fill_(float("nan"))  # what lies in memory that is used next
    model = loaded(init=init, result="logits * self.factor")
    expected = [3 * value for value in LOGITS]
    assert model.outputs(WHITE).tolist() == [expected] * 3
    archived = load_module(recipe(), tmp_path / "own.pth")
    assert archived(torch.ones(1, 3, 4, 4)).tolist() == [expected]


def test_a_checkpoint_in_another_form_is_taken_and_said(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    halves = {f"module.{name}": value.half() for name, value in STATE_DICT.items()}
    model = loaded(checkpoint={"epoch": 3, "ema": halves, "model": STATE_DICT}, entry="ema")
    assert model.outputs(WHITE).tolist() == [LOGITS] * 3
    said = capsys.readouterr().out
    assert "own.pth: taken from the entry 'ema'" in said
    assert "own.pth: 'module.' is taken off the names" in said
    assert "own.pth: converted to float32 from float16" in said


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.complex64])
def test_numbers_of_another_kind_are_refused(dtype: torch.dtype, loaded: Loaded) -> None:
    quantised = {name: item.to(dtype) for name, item in STATE_DICT.items()}
    with pytest.raises(UserError, match=r"2 tensors hold other numbers .* the first fc\.weight, \w+ in place"):
        loaded(checkpoint=quantised)


def test_weights_of_another_architecture_are_refused_by_both_names(loaded: Loaded) -> None:
    with pytest.raises(UserError, match=r"own\.pth does not fit architecture own_original: 0 of .* 2 names fit"):
        loaded(checkpoint={"other": torch.zeros(1)})


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("logits[:, 0]", r"own gives \[\] for a picture, not one row of logits"),
        ("pixels", r"own gives \[3, 4, 4\] for a picture"),
        ("'many'", "own does not compute on the recipe's input, 3 channels of 4 x 4: TypeError: .*str"),
        ("logits @ pixels[0, 0]", "own does not compute on the recipe's input.*RuntimeError"),
    ],
)
def test_what_gives_no_row_of_logits_is_refused(result: str, message: str, loaded: Loaded) -> None:
    with pytest.raises(UserError, match=message):
        loaded(result=result).outputs(WHITE)


class Mean(nn.Module):
    """The mean of each channel, and how many pictures came at once."""

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.cat([pixels.mean((2, 3)), torch.ones(len(pixels), 1) * len(pixels)], dim=1)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize(("batch", "at_once"), [(None, 1), (2, 2)])
def test_a_torchscript_program_is_its_own_reference(batch: int | None, at_once: int, tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Mean()), tmp_path / "own.pt")
    asked = recipe(program="torchscript:own-0123abcd.pt", input={"crop": 4, "normalization": {}, "batch": batch})
    model = original(asked, weights(tmp_path / "own.pt"))
    assert model.program == tmp_path / "own.pt"
    assert model.outputs(WHITE).tolist() == [[1, 1, 1, at_once]] * 3


class Plain(nn.Module):
    """The mean of each channel."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.mean((2, 3))


@pytest.mark.parametrize("batch", [None, 2])
def test_a_program_of_torch_export_is_its_own_reference(batch: int | None, tmp_path: Path) -> None:
    shapes = None if batch else ({0: torch.export.Dim("batch", min=1)},)
    torch.export.save(
        torch.export.export(Plain(), (torch.zeros(2, 3, 4, 4),), dynamic_shapes=shapes), tmp_path / "own.pt2"
    )
    asked = recipe(program="export:own-0123abcd.pt2", input={"crop": 4, "normalization": {}, "batch": batch})
    assert original(asked, weights(tmp_path / "own.pt2")).outputs(WHITE).tolist() == [[1, 1, 1]] * 3


def write_onnx(path: Path, kind: int, batch: int | None, layout: str) -> None:
    axes = [2, 3] if layout == "nchw" else [1, 2]
    sides = [3, 4, 4] if layout == "nchw" else [4, 4, 3]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["input"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats"], ["means"], axes=axes, keepdims=0),
        ],
        "own",
        [helper.make_tensor_value_info("input", kind, [batch or "N", *sides])],
        [helper.make_tensor_value_info("means", TensorProto.FLOAT, [batch or "N", 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(
    ("kind", "scale", "white"),
    [(TensorProto.FLOAT, 1 / 255, 1), (TensorProto.FLOAT16, 1 / 255, 1), (TensorProto.UINT8, 1, 255)],
    ids=["float", "float16", "uint8"],
)
@pytest.mark.parametrize("batch", [None, 2])
def test_an_onnx_file_is_its_own_reference(
    layout: str, kind: int, scale: float, white: int, batch: int | None, tmp_path: Path
) -> None:
    write_onnx(tmp_path / "own.onnx", kind, batch, layout)
    spec = {"crop": 4, "normalization": {"scale": scale}, "batch": batch, "layout": layout}
    model = original(recipe(program="onnx:own-0123abcd.onnx", input=spec), weights(tmp_path / "own.onnx"))
    assert (model.module, model.outputs(WHITE).tolist()) == (None, [[white] * 3] * 3)


def test_an_onnx_file_that_cannot_be_served_is_refused_with_why(tmp_path: Path) -> None:
    write_onnx(tmp_path / "own.onnx", TensorProto.INT64, None, "nchw")
    with pytest.raises(UserError, match="must take one tensor of pictures, of float, float16 or uint8; it takes int64"):
        original(recipe(program="onnx:own-0123abcd.onnx"), weights(tmp_path / "own.onnx"))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("kind", ["torchscript", "export", "onnx"])
@pytest.mark.parametrize("content", [b"nonsense", b"PK\x03\x04"])
def test_what_is_no_program_of_its_kind_is_refused_by_name(kind: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "own.bin").write_bytes(content)
    with pytest.raises(UserError, match=rf"own\.bin is not a program of kind {kind} that can be loaded"):
        original(recipe(program=f"{kind}:own-0123abcd.bin"), weights(tmp_path / "own.bin"))


@pytest.mark.slow  # seconds to import
def test_older_names_of_transformers_weights_are_renamed_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    config: dict[str, Any] = {
        "image_size": 4, "patch_size": 2, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 8, "num_labels": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    expected = ViTForImageClassification(ViTConfig(**config)).eval()
    expected.save_pretrained(tmp_path)  # which writes the older names
    asked = recipe(architecture="transformers:ViTForImageClassification", arguments=config)
    model = original(asked, weights(tmp_path / "model.safetensors"))
    with torch.inference_mode():
        logits: NDArray[np.float32] = expected(torch.ones(1, 3, 4, 4)).logits.numpy()
    np.testing.assert_allclose(model.outputs(WHITE), logits.repeat(3, 0), atol=1e-5, rtol=0)
    assert "model.safetensors: transformers renamed older names of the weights" in capsys.readouterr().out
    older = {name.replace("classifier", "head"): value for name, value in expected.state_dict().items()}
    torch.save(older, tmp_path / "older.pth")
    with pytest.raises(UserError, match=r"older\.pth does not fit architecture transformers:ViTForImage"):
        original(asked, weights(tmp_path / "older.pth"))


class Sums(nn.Module):
    """Two logits a picture: the sum of its floats, and the number of pictures in the batch."""

    def forward(self, floats: Tensor) -> Tensor:
        return torch.stack([floats.sum(dim=(1, 2, 3)), torch.full((len(floats),), float(len(floats)))], dim=1)


def test_the_reference_sees_one_normalised_picture_at_a_time() -> None:
    recipe = read_recipe(TINY_RECIPE)
    pixels = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    logits = of_module(recipe, Sums()).outputs(pixels)
    floats = normalize(torch.from_numpy(pixels), recipe.input)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits[:, 0], floats.sum(dim=(1, 2, 3)), atol=1e-5, rtol=1.3e-6)
    assert logits[:, 1].tolist() == [1, 1, 1]
