"""Writes an ONNX file as converters make it of TensorFlow's programs: NHWC, one picture at a time, probabilities."""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tests.integration.decisive import decide

_OPSET = 17
_FORMAT = 8


def write_onnx(path: Path, pictures: Sequence[Tensor]) -> None:
    """Write a small network that tells these pictures, [3,H,W] each, apart."""
    layers = [nn.Conv2d(3, 32, 3, stride=2), nn.ReLU(), nn.Conv2d(32, 96, 3, stride=2), nn.ReLU()]
    network = decide(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 20)), pictures)
    first, second, head = network[0], network[2], network[6]
    nodes = [
        helper.make_node("Transpose", ["input_1"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "first.weight", "first.bias"], ["one"], strides=[2, 2]),
        helper.make_node("Relu", ["one"], ["one_active"]),
        helper.make_node("Conv", ["one_active", "second.weight", "second.bias"], ["two"], strides=[2, 2]),
        helper.make_node("Relu", ["two"], ["two_active"]),
        helper.make_node("GlobalAveragePool", ["two_active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "head.weight", "head.bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["predictions"], axis=1),
    ]
    constants = [
        numpy_helper.from_array(value.detach().numpy(), f"{name}.{key}")
        for name, layer in (("first", first), ("second", second), ("head", head))
        for key, value in layer.named_parameters()
    ]
    _, height, width = pictures[0].shape
    taken = helper.make_tensor_value_info("input_1", TensorProto.FLOAT, [1, height, width, 3])
    given = helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [1, len(pictures)])
    graph = helper.make_graph(nodes, "network", [taken], [given], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_FORMAT)
    onnx.checker.check_model(model)
    onnx.save(model, path)
