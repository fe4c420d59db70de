"""A user's own ONNX file with the normalisation in front of it: ONNX Runtime computes what torch does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from classifier.normalization import laid_out, normalize
from classifier.recipe import Recipe
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from scripts.building.exports.onnx_program import from_pixels
from scripts.console import UserError

SIZE = (5, 7)
FLOAT, HALF, BYTES = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8
PIXELS = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)


def recipe(**spec: Any) -> Recipe:
    fields = {"crop": list(SIZE), "normalization": "half"} | spec
    given = {"name": "mine", "program": "onnx:mine-0123abcd.onnx", "labels": ["a"], "input": fields}
    return msgspec.convert(given, Recipe)


Shape = list[int | str]


def identity(
    recipe: Recipe, kind: int = FLOAT, input_name: str = "input", output: str = "logits", opset: int = 13
) -> onnx.ModelProto:
    """A graph that gives its input as it is, flattened: each value of the input can be compared."""
    spec = recipe.input
    sides = [spec.depth, *spec.size] if spec.layout == "nchw" else [*spec.size, spec.depth]
    batch: int | str = spec.batch or "N"
    graph = helper.make_graph(
        [helper.make_node("Flatten", [input_name], ["flat"]), helper.make_node("Cast", ["flat"], [output], to=FLOAT)],
        "mine",
        [helper.make_tensor_value_info(input_name, kind, [batch, *sides])],
        [helper.make_tensor_value_info(output, FLOAT, [batch, None])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


Served = Callable[..., NDArray[np.float32]]


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """What ONNX Runtime computes of pixels with a graph that has the normalisation in front."""

    def compute(model: onnx.ModelProto, recipe: Recipe, pixels: NDArray[np.uint8] = PIXELS) -> NDArray[np.float32]:
        onnx.save(model, tmp_path / "mine.onnx")
        made = from_pixels(tmp_path / "mine.onnx", recipe)
        onnx.checker.check_model(made, full_check=True)
        session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        (taken,) = session.get_inputs()
        assert (taken.type, taken.shape[1:]) == ("tensor(uint8)", [*SIZE, 3])
        outputs = session.run(None, {taken.name: pixels})
        assert len(outputs) == 1
        return np.asarray(outputs[0])

    return compute


def expected(recipe: Recipe, pixels: NDArray[np.uint8] = PIXELS) -> NDArray[np.float32]:
    floats = laid_out(normalize(torch.from_numpy(pixels), recipe.input), recipe.input.layout)
    result: NDArray[np.float32] = floats.contiguous().flatten(1).numpy()
    return result


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(
    "spec",
    [
        {"normalization": "imagenet"},
        {"normalization": "half"},
        {"normalization": {}},
        {"normalization": {"mean": [103.5, 116.25, 123.5], "scale": 1}, "channels": "bgr"},
        {"normalization": {"mean": 0.1307, "std": 0.3081}, "channels": "grey"},
        {"normalization": {"scale": 1}, "channels": "grey"},
    ],
    ids=["imagenet", "half", "0 to 1", "bgr levels", "grey", "grey levels"],
)
def test_the_graph_sees_what_torch_would_give_it(spec: dict[str, Any], layout: str, served: Served) -> None:
    asked = recipe(**spec, layout=layout)
    found = served(identity(asked), asked)
    np.testing.assert_allclose(found, expected(asked), atol=1e-6 * max(1, np.abs(found).max()), rtol=0)


def test_grey_levels_are_whole_and_the_same_to_the_last_one(served: Served) -> None:
    asked = recipe(channels="grey", normalization={"scale": 1})
    assert np.array_equal(served(identity(asked), asked), expected(asked))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_half_precision_is_taken_as_such(layout: str, served: Served) -> None:
    asked = recipe(layout=layout)
    assert np.array_equal(served(identity(asked, HALF), asked), expected(asked).astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("normalization", [{"scale": 1}, {"mean": [0, 0, 0], "std": 1, "scale": 1.0}])
def test_levels_are_taken_as_they_are(layout: str, normalization: object, served: Served) -> None:
    asked = recipe(layout=layout, normalization=normalization)
    found = served(identity(asked, BYTES), asked).reshape(expected(asked).shape)
    assert np.array_equal(found, expected(asked))


@pytest.mark.parametrize("normalization", ["imagenet", "half", {}, {"scale": 1, "std": 2}])
def test_a_graph_that_takes_levels_is_not_given_fractions_of_them(normalization: object, served: Served) -> None:
    asked = recipe(normalization=normalization)
    with pytest.raises(UserError, match=r"takes uint8, levels as they are: write `normalization: \{scale: 1\}`"):
        served(identity(asked, BYTES), asked)


def test_a_fixed_batch_stays_fixed(served: Served) -> None:
    asked = recipe(batch=3)
    assert served(identity(asked), asked).shape[0] == 3
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        served(identity(asked), asked, PIXELS[:2])


@pytest.mark.parametrize("opset", [7, 9, 12, 17, 22])
def test_every_opset_since_seven_will_do(opset: int, served: Served) -> None:
    asked = recipe(channels="grey", normalization={"scale": 1})
    np.testing.assert_array_equal(served(identity(asked, opset=opset), asked), expected(asked))


@pytest.mark.parametrize("name", ["pixels", "pixels_cast", "pixels_sub_by", "pixels_1"])
def test_names_of_the_graph_may_be_ours(name: str, served: Served) -> None:
    asked = recipe()
    for model in (identity(asked, input_name=name), identity(asked, output=name)):
        np.testing.assert_allclose(served(model, asked), expected(asked), atol=1e-6, rtol=0)


def test_names_inside_a_branch_may_be_ours(served: Served) -> None:
    asked = recipe()
    model = identity(asked)
    branches: dict[str, Any] = {
        f"{which}_branch": helper.make_graph(
            [helper.make_node("Identity", ["flat"], ["pixels"]), helper.make_node("Identity", ["pixels"], [which])],
            which,
            [],
            [helper.make_tensor_value_info(which, FLOAT, None)],
        )
        for which in ("then", "else")
    }
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    model.graph.node[1].CopyFrom(helper.make_node("If", ["always"], ["logits"], **branches))
    np.testing.assert_allclose(served(model, asked), expected(asked), atol=1e-6, rtol=0)


def test_old_files_that_list_their_weights_among_the_inputs_are_taken(served: Served) -> None:
    """Before version 4 of the format every weight was an input, too."""
    asked = recipe()
    model = identity(asked, output="whole", opset=8)
    model.ir_version = 3
    model.graph.node.append(helper.make_node("Mul", ["whole", "two"], ["logits"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(2, np.float32), "two"))
    model.graph.input.append(helper.make_tensor_value_info("two", FLOAT, []))
    model.graph.output[0].name = "logits"
    np.testing.assert_allclose(served(model, asked), 2 * expected(asked), atol=1e-6, rtol=0)


def test_of_several_outputs_the_first_is_the_logits(served: Served) -> None:
    asked = recipe()
    model = identity(asked)
    model.graph.output.append(helper.make_tensor_value_info("flat", FLOAT, None))
    np.testing.assert_allclose(served(model, asked), expected(asked), atol=1e-6, rtol=0)


def test_nothing_of_the_machine_that_exported_it_stays(served: Served, tmp_path: Path) -> None:
    asked = recipe()
    model = identity(asked)
    model.doc_string = model.graph.node[0].doc_string = "/home/me/train.py"
    helper.set_model_props(model, {"where": "/home/me"})
    served(model, asked)
    assert b"/home/me" not in from_pixels(tmp_path / "mine.onnx", asked).SerializeToString()


@pytest.mark.parametrize("place", ["initializer", "constant"])
def test_weights_in_another_file_are_refused_because_no_digest_covers_them(
    place: str, served: Served, tmp_path: Path
) -> None:
    asked = recipe()
    model = identity(asked, output="whole")
    factor = numpy_helper.from_array(np.full(SIZE[0] * SIZE[1] * 3, 2, np.float32), "factor")
    if place == "initializer":
        model.graph.initializer.append(factor)
    else:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["factor"], value=factor))
    model.graph.node.append(helper.make_node("Mul", ["whole", "factor"], ["logits"]))
    model.graph.output[0].name = "logits"
    path = tmp_path / "beside.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0, convert_attribute=True)
    assert (tmp_path / "weights.bin").exists()
    with pytest.raises(UserError, match=r"keeps its weights in another file, which no digest covers; save it as one"):
        from_pixels(path, asked)


def test_anything_but_one_tensor_of_pictures_is_refused(served: Served) -> None:
    asked = recipe()
    two = identity(asked)
    two.graph.input.append(helper.make_tensor_value_info("mask", FLOAT, ["N"]))
    with pytest.raises(UserError, match=r"must take one tensor of pictures.*it takes float, float"):
        served(two, asked)
    with pytest.raises(UserError, match="of float, float16 or uint8; it takes int64"):
        served(identity(asked, TensorProto.INT64), asked)
