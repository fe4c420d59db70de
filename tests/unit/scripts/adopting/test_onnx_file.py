from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scripts.adopting.onnx_file import read_onnx
from scripts.console import UserError
from tests.unit.scripts.adopting.conftest import Project


def written(
    path: Path, shape: list[Any], kind: int = TensorProto.FLOAT, softmax: bool = False, inputs: int = 1
) -> Path:
    """A model of the means of the channels of pictures [N,C,H,W] or [N,H,W,C]."""
    axes = [2, 3] if shape[1] in (1, 3) else [1, 2]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["means"], axes=axes, keepdims=0),
        helper.make_node("Mul", ["means", "many"], ["logits"]),
        *([helper.make_node("Softmax", ["logits"], ["shares"], axis=1)] if softmax else []),
    ]
    taken = [helper.make_tensor_value_info(name, kind, shape) for name in ("pixels", "other")[:inputs]]
    given = helper.make_tensor_value_info("shares" if softmax else "logits", TensorProto.FLOAT, ["n", 3])
    many = numpy_helper.from_array(np.array([30, -30, 7], np.float32), "many")
    graph = helper.make_graph(nodes, "means", taken, [given], [many])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("shape", "kind", "expected"),
    [
        (["n", 3, 32, 48], TensorProto.FLOAT, ([None, 3, 32, 48], False, 1)),
        ([1, 32, 32, 3], TensorProto.FLOAT16, ([1, 32, 32, 3], False, 1)),
        (["n", "h", "w", 3], TensorProto.UINT8, ([None, None, None, 3], True, 1)),
    ],
)
def test_shape_and_type_are_read(tmp_path: Path, shape: list[Any], kind: int, expected: object) -> None:
    assert read_onnx(written(tmp_path / "x.onnx", shape, kind)) == expected


def test_a_file_becomes_a_recipe(project: Project) -> None:
    recipe = project.adopt(written(project.folder / "net.onnx", ["n", 3, 32, 48], softmax=True))
    assert recipe.program is not None
    assert recipe.program.startswith("onnx:../net.onnx#sha256=")
    assert (recipe.input.size, recipe.scores, recipe.labels) == ((32, 48), "none", ["0", "1", "2"])


def test_whole_numbers_are_taken_as_they_are(project: Project) -> None:
    recipe = project.adopt(written(project.folder / "net.onnx", [1, 32, 32, 3], TensorProto.UINT8))
    assert project.raw("net")["input"]["normalization"] == {"scale": 1.0}
    assert (recipe.input.layout, recipe.input.batch) == ("nhwc", 1)


def test_what_takes_no_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes 2 tensors, not one of pictures: pixels, other"):
        read_onnx(written(tmp_path / "x.onnx", ["n", 3, 32, 32], inputs=2))
    with pytest.raises(UserError, match="takes int64; pictures are given as float, float16 or uint8"):
        read_onnx(written(tmp_path / "x.onnx", ["n", 3, 32, 32], TensorProto.INT64))
    with pytest.raises(UserError, match="a tensor of 5 dimensions"):
        read_onnx(written(tmp_path / "x.onnx", ["n", 3, 32, 32, 2]))


def test_damage_and_weights_elsewhere_are_said(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"\x08\x08hello")
    with pytest.raises(UserError, match="is no ONNX file, or a damaged one"):
        read_onnx(path)
    model = onnx.load(written(path, ["n", 3, 32, 32]))
    onnx.save(model, path, save_as_external_data=True, location="x.data", size_threshold=0)
    with pytest.raises(UserError) as error:
        read_onnx(path)
    assert 'onnx.save(onnx.load("x.onnx"), "x-whole.onnx")' in str(error.value)


def test_weights_beside_the_file_are_refused_wherever_they_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "x.onnx", ["n", 3, 32, 32])
    model = onnx.load(path)
    outside = TensorProto(name="value", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="secret.bin")
    branch = helper.make_graph([helper.make_node("Constant", [], ["inner"], value=outside)], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["yes"], ["unused"], then_branch=branch, else_branch=branch))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="keeps its weights in a file beside it"):
        read_onnx(path)


def test_of_several_outputs_the_first_is_assumed_to_be_the_logits(project: Project) -> None:
    path = written(project.folder / "several.onnx", ["n", 3, 32, 32])
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("means", TensorProto.FLOAT, ["n", 3]))
    onnx.save(model, path)
    project.adopt(path)
    assert "# Assumed: the logits are the first of its 2 outputs" in project.text("several")
