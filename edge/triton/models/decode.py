"""Triton's model `<model>_decode`: the bytes of pictures to the pixels that the network sees."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from classifier.digests import verify
from classifier.identity import RECIPE_FILE
from classifier.pipeline import load_pixels, threads_per_worker
from classifier.problems import EmptyBody, Problem
from classifier.recipe import read_recipe
from numpy.typing import NDArray
from triton_problems import error_response


class TritonPythonModel:
    """Decodes all pictures of a batch of requests at once, on a pool of threads."""

    def initialize(self, _: dict[str, str]) -> None:
        """Verify the files beside this one, and read the recipe."""
        folder = Path(__file__).parent
        verify(folder)
        recipe = read_recipe(folder / RECIPE_FILE)
        self._input = recipe.input
        self._decoders = ThreadPoolExecutor(threads_per_worker(recipe.serving), thread_name_prefix="decode")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Decode IMAGE, uint8 [N,bytes], to pixels, uint8 [N,H,W,3]. A bad picture fails only its own request."""
        files = [pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy() for request in requests]
        pixels = self._decoders.map(self._load, (row for rows in files for row in rows))
        return [_respond(request, [next(pixels) for _ in rows]) for request, rows in zip(requests, files, strict=True)]

    def _load(self, file: NDArray[np.uint8]) -> NDArray[np.uint8] | Problem:
        if not file.size:
            return EmptyBody("IMAGE is empty; send the bytes of a picture")
        return load_pixels(file.tobytes(), self._input)


def _respond(request: Any, pixels: list[NDArray[np.uint8] | Problem]) -> Any:
    problem = next((item for item in pixels if isinstance(item, Problem)), None)
    if problem is not None:
        return error_response(problem, request.request_id())
    return pb_utils.InferenceResponse([pb_utils.Tensor("pixels", np.stack(pixels))])  # type: ignore[arg-type] # no problem
