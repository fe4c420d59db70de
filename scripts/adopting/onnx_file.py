"""Reads what an ONNX file takes."""

from pathlib import Path
from typing import Any, Final

from scripts.console import UserError

_DIMENSIONS: Final = 4


def read_onnx(path: Path) -> tuple[list[int | None], bool, int]:
    """The shape of an ONNX model's input, None where a length is free, whether it takes whole numbers, and its outputs.

    Raises:
        UserError: it is not a whole ONNX file, keeps its weights elsewhere, or does not take one tensor of pictures.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
        _refuse_external(model, path)
        onnx.checker.check_model(model)
    except UserError:
        raise
    except Exception as error:  # protobuf's and the checker's own
        raise UserError(f"{path} is no ONNX file, or a damaged one: {str(error)[:300]}") from error
    constants = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in constants]
    if len(inputs) != 1:
        raise UserError(f"{path} takes {len(inputs)} tensors, not one of pictures: {', '.join(i.name for i in inputs)}")
    tensor = inputs[0].type.tensor_type
    kinds: dict[int, bool] = {
        onnx.TensorProto.FLOAT: False,
        onnx.TensorProto.FLOAT16: False,
        onnx.TensorProto.UINT8: True,
    }
    if tensor.elem_type not in kinds:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise UserError(f"{path} takes {kind}; pictures are given as float, float16 or uint8")
    shape = [side.dim_value if side.dim_value > 0 else None for side in tensor.shape.dim]
    if len(shape) != _DIMENSIONS:
        raise UserError(f"{path} takes a tensor of {len(shape)} dimensions, not pictures [N,C,H,W] or [N,H,W,C]")
    return shape, kinds[tensor.elem_type], len(model.graph.output)


def _refuse_external(model: Any, path: Path) -> None:
    from scripts.building.exports.onnx_program import keeps_weights_apart  # which needs onnx, an optional package

    if keeps_weights_apart(model):
        raise UserError(
            f"{path} keeps its weights in a file beside it, which no digest covers; save it as one:\n"
            f'    onnx.save(onnx.load("{path.name}"), "{path.stem}-whole.onnx")'
        )
