"""The form of TorchServe's own `image_classifier`, for clients that were written for it: its bodies and its answers.

An answer is one object, `{"<name of a class>": <probability>, …}`, likeliest first. TorchServe builds it as a
dictionary by name: of two classes of one name in an answer it loses the likelier one. Here the likelier one has the
plain name and the other its id behind it, so the answer has every key that TorchServe's has, and no class is lost.

A body is one of those of json_body.py, or a JSON string, the base64 of a picture. A list of pictures is answered by
`{"predictions": [{…}, …]}` or `{"explanations": […]}`, as in KServe's protocol v1. The protocol v2 has one form for all
servers (v2.py).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from classifier.identity import Model
from classifier.json_body import Pictures
from classifier.problems import Problem
from classifier.rank import Prediction
from classifier.responses import Response, json_response, problem_response


def respond(request: Pictures, results: Sequence[list[Prediction] | Problem], _: Model) -> Response:
    """The response to a request.

    A picture's problem is the problem of the whole request, as with TorchServe's handler: a client that takes each
    element of `predictions` for probabilities by name would take a problem for them too.

    Args:
        request: the request as it was read.
        results: the result of each picture, in their order.
    """
    for place, result in enumerate(results, 1):
        if isinstance(result, Problem):
            where = f"picture {place} of {len(results)}: " if len(results) > 1 else ""
            return problem_response(type(result)(f"{where}{result.detail}"))
    answers = [by_name(result) for result in results if not isinstance(result, Problem)]
    return json_response({"predictions": answers} if request.listed else answers[0])


def explanation_of(request: Pictures, attributions: NDArray[np.float32]) -> Response:
    """The response to a request for an explanation: a number for each value of the model's input.

    Args:
        request: the request as it was read.
        attributions: how much each value speaks for the class, [channels,rows,columns].
    """
    values = attributions.tolist()
    return json_response({"explanations": [values]} if request.listed else values)


def by_name(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Probabilities by the name of the class, likeliest first; see the module's text about names that occur twice."""
    found: dict[str, float] = {}
    for prediction in predictions:
        name = prediction.class_name
        while name in found:
            name = f"{name} ({prediction.class_id})"
        found[name] = prediction.probability
    return found
