"""Triton's model `<model>_rank`: logits to the contract's answers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from classifier.digests import verify
from classifier.identity import LABELS_FILE, RECIPE_FILE, read_identity
from classifier.labels import read_labels
from classifier.pipeline import finite, internal_problem
from classifier.problems import Problem
from classifier.rank import probabilities, top_k
from classifier.recipe import read_recipe
from classifier.responses import prediction_response
from classifier.service import PARAMETER_HEADERS, parse_top_k
from triton_problems import error_response


class TritonPythonModel:
    """Ranks the classes, with the labels that lie beside this file."""

    def initialize(self, _: dict[str, str]) -> None:
        """Verify the files beside this one, and read the labels, the recipe and the model's identity."""
        folder = Path(__file__).parent
        verify(folder)
        self._labels = read_labels(folder / LABELS_FILE)
        self._model = read_identity(folder).model
        self._recipe = read_recipe(folder / RECIPE_FILE)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Turn logits, float32 [N,classes], into PREDICTIONS [N,1], the JSON of an answer for each picture."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        try:
            logits = pb_utils.get_input_tensor_by_name(request, "logits").as_numpy()
            answers = self._answers(logits, parse_top_k(_parameters(request), len(self._labels)))
        except Problem as problem:
            return error_response(problem, request.request_id())
        except Exception as error:  # any other error must fail this request alone
            return error_response(internal_problem(error), request.request_id())
        return pb_utils.InferenceResponse([pb_utils.Tensor("PREDICTIONS", np.array(answers, np.object_)[:, None])])

    def _answers(self, logits: Any, k: int) -> list[bytes]:
        rows, threshold = probabilities(logits, self._recipe.scores), self._recipe.threshold
        if not finite(rows):
            raise ValueError("the logits are not finite")
        return [prediction_response(top_k(row, self._labels, k, threshold), self._model).body for row in rows]


def _parameters(request: Any) -> dict[str, str]:
    """A request's parameters by the contract's names: its own, and the headers that Triton passes on."""
    given = {name.lower(): str(value) for name, value in json.loads(request.parameters() or "{}").items()}
    return {PARAMETER_HEADERS.get(name, name): value for name, value in given.items()}
