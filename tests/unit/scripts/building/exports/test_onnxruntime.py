from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from classifier.recipe import Recipe
from msgspec import convert
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from scripts.building.exports.export import export
from scripts.building.exports.program import Export


def written(folder: Path, classes: int) -> Path:
    """A user's ONNX file of two linear layers over the mean of each channel, pictures 8 x 8, with weights in it."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    weights: dict[str, NDArray[Any]] = {
        "first": random.standard_normal((3, classes), dtype=np.float32),
        "second": random.standard_normal((classes, classes), dtype=np.float32),
        "shape": np.array([-1, 3], np.int64),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["pictures"], ["means"]),
        helper.make_node("Reshape", ["means", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "first"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "own.onnx")
    return folder / "own.onnx"


def exported(program: Path, folder: Path, classes: int) -> tuple[Path, list[Path]]:
    """What `make archive` makes of the file for ONNX Runtime: the graph, and what lies beside it."""
    fields: dict[str, Any] = {"name": "mine", "program": "onnx:own-0123abcd.onnx", "input": {"crop": 8}}
    recipe = convert(fields | {"labels": [str(number) for number in range(classes)]}, Recipe)
    path = folder / "mine.onnx"
    folder.mkdir()
    what = Export(module=None, program=program, recipe=recipe, variant=recipe.variant("onnxruntime", "float32"))
    return path, export(what, path)


def test_large_weights_lie_beside_the_graph_each_on_pages_of_its_own(tmp_path: Path) -> None:
    program = written(tmp_path / "own", 100)
    path, beside = exported(program, tmp_path / "made", 100)
    assert beside == [tmp_path / "made" / "mine.onnx.data"]
    assert sorted(tmp_path.glob("made/*")) == [path, *beside]
    graph = onnx.load(path, load_external_data=False).graph
    places = {item.name: {entry.key: entry.value for entry in item.external_data} for item in graph.initializer}
    apart = {name for name, place in places.items() if place}
    assert apart == {"first", "second"}
    assert all(place["location"] == "mine.onnx.data" for name, place in places.items() if name in apart)
    assert all(int(place["offset"]) % 4096 == 0 for name, place in places.items() if name in apart)
    given = {item.name: numpy_helper.to_array(item) for item in onnx.load(program).graph.initializer}
    found = {item.name: numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}
    assert all(np.array_equal(found[name], value) for name, value in given.items())
    onnx.checker.check_model(path, full_check=True)


@pytest.mark.parametrize("classes", [100, 5])
def test_the_outputs_are_those_of_the_file_with_the_weights_in_it(classes: int, tmp_path: Path) -> None:
    program = written(tmp_path / "own", classes)
    path, beside = exported(program, tmp_path / "made", classes)
    assert len(beside) == (classes == 100)  # weights of less than a kilobyte stay in the graph
    pixels = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    (logits,) = onnxruntime.InferenceSession(path).run(None, {"pixels": pixels})
    scaled = (pixels / np.float32(255) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    given = {"pictures": scaled.transpose(0, 3, 1, 2).astype(np.float32)}
    (expected,) = onnxruntime.InferenceSession(program).run(None, given)
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)


def test_quantised_weights_stay_in_the_graph_where_the_runtime_rearranges_them(tmp_path: Path) -> None:
    program = written(tmp_path / "own", 100)
    model = onnx.load(program)
    (weight,) = (item for item in model.graph.initializer if item.name == "first")
    weight.CopyFrom(numpy_helper.from_array(np.ones((30, 100), np.int8), "unused"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((3, 100), np.float32), "first"))
    onnx.save(model, program)
    path, beside = exported(program, tmp_path / "made", 100)
    assert beside == []
    assert list(tmp_path.glob("made/*")) == [path]


def test_the_bytes_are_the_same_twice(tmp_path: Path) -> None:
    program = written(tmp_path / "own", 100)
    files = [exported(program, tmp_path / name, 100) for name in ("first", "second")]
    one, other = ([path.read_bytes(), *(item.read_bytes() for item in beside)] for path, beside in files)
    assert len(one) == 2
    assert one == other
