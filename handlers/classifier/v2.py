"""KServe's Open Inference Protocol, version 2, in JSON: its request to pictures in base64, the results to its response.

The input is one BYTES tensor of pictures. The outputs have a row for each of them, in the same order:

    class_id     BYTES [pictures, top_k]   likeliest first
    class_name   BYTES [pictures, top_k]
    probability  FP32  [pictures, top_k]
    problem      BYTES [pictures]          empty for a picture that was classified

The rows of a tensor have no status of their own: what is wrong with a picture stands in `problem`, as the text of the
object that other answers carry. Its rows in the other tensors are empty strings and zeros.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from classifier.identity import Model
from classifier.json_body import read_json
from classifier.problems import BadJson, BadParameter, Problem
from classifier.rank import Prediction

_EXPECTED = (
    'expected {"inputs": [{"name": "…", "shape": [N], "datatype": "BYTES", "data": ["<base64 of a picture>", …]}]}'
)

Parameters = dict[str, str | int | float | bool]


class InferInput(msgspec.Struct, frozen=True):
    """A tensor of pictures in base64."""

    name: str
    shape: list[int]
    datatype: Literal["BYTES"]
    data: list[str]


class RequestedOutput(msgspec.Struct, frozen=True):
    """The name of a tensor to return."""

    name: str


class InferRequest(msgspec.Struct, frozen=True):
    """A request of the protocol, as far as a classifier reads it."""

    inputs: list[InferInput]
    id: Annotated[str, Meta(max_length=256)] = ""  # comes back, and must not make the answer larger than answers may be
    parameters: Parameters = {}
    outputs: list[RequestedOutput] = []  # which tensors to return; all when none is named

    @property
    def pictures(self) -> list[str]:
        """The pictures, each in base64."""
        return self.inputs[0].data


class InferOutput(msgspec.Struct, frozen=True):
    """A tensor of the response, its rows one after the other."""

    name: str
    shape: list[int]
    datatype: str
    data: Sequence[str | float]


OUTPUTS = ("class_id", "class_name", "probability", "problem")


class _Kind(msgspec.Struct, frozen=True):
    inputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def is_v2(body: object, expected: str) -> bool:
    """Whether this JSON is meant for this protocol: TorchServe tells its workers nothing of the path.

    Args:
        body: bytes, or JSON that a server had decoded.
        expected: what to tell a client whose JSON is neither.

    Raises:
        BadJson: it is no JSON object.
    """
    if isinstance(body, bytes | bytearray):
        return read_json(body, _Kind, expected).inputs is not msgspec.UNSET
    return isinstance(body, dict) and "inputs" in body


def read(body: object) -> InferRequest:
    """JSON to a request of the protocol.

    Raises:
        BadJson: it has not the documented shape.
        BadParameter: it wants an output that there is not.
    """
    request = read_json(body, InferRequest, _EXPECTED)
    if len(request.inputs) != 1:
        raise BadJson(f"{len(request.inputs)} inputs instead of one tensor of pictures; {_EXPECTED}")
    (tensor,) = request.inputs
    if tensor.shape not in ([len(tensor.data)], [len(tensor.data), 1]):
        raise BadJson(f"shape {tensor.shape} is not that of {len(tensor.data)} pictures; {_EXPECTED}")
    for wanted in request.outputs:
        if wanted.name not in OUTPUTS:
            raise BadParameter(f"there is no output `{wanted.name}`; there are {', '.join(OUTPUTS)}")
    return request


def content(
    request: InferRequest, top_k: int, results: Sequence[list[Prediction] | Problem], model: Model
) -> dict[str, object]:
    """The response to a request.

    Args:
        request: as `read` returned it.
        top_k: how many classes each picture was asked for.
        results: of each picture, in their order.
        model: what computed them.
    """
    nothing = [Prediction("", "", 0.0)] * top_k
    rows = [prediction for result in results for prediction in (nothing if isinstance(result, Problem) else result)]
    problems = [
        msgspec.json.encode(result.as_dict()).decode() if isinstance(result, Problem) else "" for result in results
    ]
    each = [len(results), top_k]
    outputs = [
        InferOutput("class_id", each, "BYTES", [row.class_id for row in rows]),
        InferOutput("class_name", each, "BYTES", [row.class_name for row in rows]),
        InferOutput("probability", each, "FP32", [row.probability for row in rows]),
        InferOutput("problem", each[:1], "BYTES", problems),
    ]
    wanted = {output.name for output in request.outputs} or set(OUTPUTS)
    return {
        "model_name": model.name,
        "model_version": model.version,
        **({"id": request.id} if request.id else {}),
        "parameters": {"runtime": model.runtime, "precision": model.precision, "weights": model.weights},
        "outputs": [output for output in outputs if output.name in wanted],
    }
