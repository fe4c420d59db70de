"""KServe's Open Inference Protocol, version 2, in JSON: its requests, and the responses that are made from results.

The input is one BYTES tensor of pictures. The outputs have a row for each of them, in the same order:

    class_id     BYTES [pictures, top_k]   likeliest first
    class_name   BYTES [pictures, top_k]
    probability  FP32  [pictures, top_k]
    problem      BYTES [pictures]          empty for a picture that was classified

The rows of a tensor have no status of their own: the problem of a picture stands in `problem`, as the JSON text of the
object that other answers carry. The rows of that picture in the other tensors are empty strings and zeros.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from classifier.errors import DECODE_ERRORS
from classifier.identity import Model
from classifier.problems import BadJson, BadParameter, Problem
from classifier.rank import Prediction

EXPECTED: Final = (
    'expected {"inputs": [{"name": "…", "shape": [N], "datatype": "BYTES", "data": ["<base64 of a picture>", …]}]}'
)

Parameters = dict[str, str | int | float | bool]
# The response returns it, so it must not make the response larger than allowed.
RequestId = Annotated[str, Meta(max_length=256)]


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
    id: RequestId = ""
    parameters: Parameters = {}
    outputs: list[RequestedOutput] = []  # which tensors to return; all when none is named

    @property
    def pictures(self) -> list[str]:
        """The pictures, each in base64."""
        return self.inputs[0].data


class _Identified(msgspec.Struct, frozen=True):
    """A request of which only the id counts."""

    id: RequestId = ""


class InferOutput(msgspec.Struct, frozen=True):
    """A tensor of the response, its rows one after the other."""

    name: str
    shape: list[int]
    datatype: str
    data: Sequence[str | float]


class InferResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Tensors with a row for each picture; the problem of a picture stands in the tensor `problem`."""

    model_name: str
    model_version: str
    id: str  # the request's; empty if it had none
    parameters: dict[str, str]  # runtime, precision and weights of the model
    outputs: list[InferOutput]


OUTPUTS = ("class_id", "class_name", "probability", "problem")


def check(request: InferRequest) -> None:
    """Check in a request what its types cannot express.

    Raises:
        BadJson: the request does not have exactly one tensor, or the shape does not fit the number of pictures.
        BadParameter: the request asks for an output that does not exist.
    """
    if len(request.inputs) != 1:
        raise BadJson(f"{len(request.inputs)} inputs instead of one tensor of pictures; {EXPECTED}")
    (tensor,) = request.inputs
    rows, *columns = tensor.shape or [0]
    if rows not in (len(tensor.data), -1) or columns not in ([], [1]) or not tensor.shape:  # -1: as many as there are
        raise BadJson(f"shape {tensor.shape} is not that of {len(tensor.data)} pictures; {EXPECTED}")
    for wanted in request.outputs:
        if wanted.name not in OUTPUTS:
            raise BadParameter(f"there is no output `{wanted.name}`; there are {', '.join(OUTPUTS)}")


def problem_to(body: object, problem: str, model: Model) -> InferResponse:
    """The response to a request that has a problem as a whole, for clients that read nothing but responses.

    Args:
        body: the request's body, of which the id is returned if it can be read.
        problem: the JSON text of the problem.
        model: the model that was asked.
    """
    try:
        request_id = msgspec.json.decode(body, type=_Identified).id if isinstance(body, bytes | bytearray) else ""
    except DECODE_ERRORS:
        request_id = ""
    return _response(request_id, model, [InferOutput("problem", [1], "BYTES", [problem])])


def response_to(
    request: InferRequest, top_k: int, results: Sequence[list[Prediction] | Problem], model: Model
) -> InferResponse:
    """The response to a request.

    Args:
        request: the request as it was received.
        top_k: how many classes to return for each picture.
        results: the result of each picture, in their order.
        model: the model that computed the results.
    """
    nothing = [Prediction("", "", 0.0)] * top_k
    found = [[] if isinstance(result, Problem) else result for result in results]
    rows = [prediction for row in found for prediction in (*row, *nothing[len(row) :])]
    problems = [
        msgspec.json.encode(result.answer()).decode() if isinstance(result, Problem) else "" for result in results
    ]
    each = [len(results), top_k]
    outputs = [
        InferOutput("class_id", each, "BYTES", [row.class_id for row in rows]),
        InferOutput("class_name", each, "BYTES", [row.class_name for row in rows]),
        InferOutput("probability", each, "FP32", [row.probability for row in rows]),
        InferOutput("problem", each[:1], "BYTES", problems),
    ]
    wanted = {output.name for output in request.outputs} or set(OUTPUTS)
    return _response(request.id, model, [output for output in outputs if output.name in wanted])


def _response(request_id: str, model: Model, outputs: list[InferOutput]) -> InferResponse:
    return InferResponse(
        model_name=model.name,
        model_version=model.version,
        id=request_id,
        parameters={"runtime": model.runtime, "precision": model.precision, "weights": model.weights},
        outputs=outputs,
    )
