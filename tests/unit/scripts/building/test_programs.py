"""Programs, built into archives: TorchScript, torch.export and ONNX, served as they are."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from classifier import load
from classifier.problems import Problem
from PIL import Image
from torch import Tensor, nn

from scripts.archives.store import read_archive_identity
from scripts.building.download import file_digest
from tests.unit.scripts.building.conftest import Workshop, of_the_source, shares

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")]


class Small(nn.Module):
    """Float32 [N,C,H,W], or [N,H,W,C], to three logits."""

    def __init__(self, depth: int = 3, last: bool = False) -> None:
        super().__init__()
        self.last = last
        self.body = nn.Conv2d(depth, 8, 3, stride=2)
        self.fc = nn.Linear(8, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        floats = pixels.permute(0, 3, 1, 2) if self.last else pixels
        logits: Tensor = 4 * self.fc(self.body(floats).relu().mean((2, 3)))
        return logits


def small(depth: int = 3, last: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return Small(depth, last).eval()


def write_torchscript(module: nn.Module, example: Tensor, path: Path, batch: int | None) -> None:
    torch.jit.save(torch.jit.trace(module, example), path)


def write_export(module: nn.Module, example: Tensor, path: Path, batch: int | None) -> None:
    shapes = None if batch else ({0: torch.export.Dim("batch", min=1)},)
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), path)


def write_onnx(module: nn.Module, example: Tensor, path: Path, batch: int | None) -> None:
    shapes = None if batch else ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(module, (example,), dynamic_shapes=shapes)
    torch.onnx.export(program, f=path, dynamo=True, external_data=False, verbose=False)


WRITERS: dict[str, Callable[[nn.Module, Tensor, Path, int | None], None]] = {
    "torchscript": write_torchscript,
    "export": write_export,
    "onnx": write_onnx,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "runtime", "batch", "layout"),
    [
        ("torchscript", "torchscript", None, "nchw"),
        ("torchscript", "torchscript", 2, "nhwc"),
        pytest.param("export", "aotinductor", None, "nchw", marks=pytest.mark.thorough),
        ("export", "onnxruntime", 2, "nhwc"),
        ("export", "openvino", None, "nchw"),
        ("torchscript", "ncnn", None, "nchw"),
        ("export", "ncnn", 1, "nhwc"),
        ("onnx", "onnxruntime", None, "nchw"),
        ("onnx", "onnxruntime", 3, "nhwc"),
        ("onnx", "openvino", 1, "nchw"),
        ("onnx", "openvino", None, "nhwc"),
    ],
)
def test_a_program_is_served_as_it_is(
    kind: str, runtime: str, batch: int | None, layout: str, workshop: Workshop, cat: bytes, coffee: bytes
) -> None:
    module = small(last=layout == "nhwc")
    example = torch.zeros(batch or 2, *((3, 24, 40) if layout == "nchw" else (24, 40, 3)))
    WRITERS[kind](module, example, workshop.folder / "flowers.bin", batch)
    spec = {"crop": [24, 40], "fit": "squash", "normalization": "half", "layout": layout}
    path = workshop.build(
        runtime,
        program=f"{kind}:{workshop.place('flowers.bin')}",
        input=spec | ({"batch": batch} if batch else {}),
        archives=[{"runtime": runtime}],  # ncnn is not among the usual ones
    )
    model = load(path)
    answers = model([cat, coffee, cat])
    for answer, picture in zip(answers, (cat, coffee, cat), strict=True):
        assert not isinstance(answer, Problem)
        assert shares(answer) == pytest.approx(of_the_source(module, squashed(picture, layout)), abs=1e-4)
    identity = read_archive_identity(path)
    assert identity.weights_sha256 == file_digest(workshop.folder / "flowers.bin")
    assert identity.requirements == []


def squashed(picture: bytes, layout: str = "nchw") -> Tensor:
    with Image.open(io.BytesIO(picture)) as opened:
        levels = np.asarray(opened.convert("RGB").resize((40, 24), Image.Resampling.BILINEAR)).copy()
    floats = torch.from_numpy(levels) / 127.5 - 1
    return floats.permute(2, 0, 1) if layout == "nchw" else floats


def test_an_onnx_file_that_takes_levels_is_served_as_it_is(workshop: Workshop, cat: bytes) -> None:
    write_onnx(small(), torch.zeros(2, 3, 24, 40), workshop.folder / "flowers.onnx", None)
    model = onnx.load(workshop.folder / "flowers.onnx")
    taken = model.graph.input[0]
    scaled = onnx.helper.make_node("Cast", ["levels"], [taken.name], to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, scaled)
    taken.name, taken.type.tensor_type.elem_type = "levels", onnx.TensorProto.UINT8
    onnx.save(model, workshop.folder / "levels.onnx")
    spec = {"crop": [24, 40], "fit": "squash", "normalization": {"scale": 1}}
    path = workshop.build("onnxruntime", program=f"onnx:{workshop.place('levels.onnx')}", input=spec)
    expected = of_the_source(small(), (squashed(cat) + 1) * 127.5)
    assert shares(load(path)(cat)) == pytest.approx(expected, abs=1e-3)
