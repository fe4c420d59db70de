"""Triton's model `<model>_network` on its Python backend: pixels to logits, in the runtime of an archive."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from classifier.allocator import keep_memory
from classifier.digests import verify
from classifier.pipeline import Classifier, internal_problem
from triton_problems import error_response


class TritonPythonModel:
    """Runs the archive that lies beside this file."""

    def initialize(self, args: dict[str, str]) -> None:
        """Verify the files beside this one, and load the model. The configuration's `model_warmup` warms it up."""
        keep_memory()  # before the libraries allocate
        folder = Path(__file__).parent
        verify(folder)
        on_gpu = args["model_instance_kind"] == "GPU"
        self._classifier = Classifier.load(folder, f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run a forward pass for a batch of requests: pixels, uint8 [N,H,W,3], to logits, float32 [N,classes]."""
        pixels = [pb_utils.get_input_tensor_by_name(request, "pixels").as_numpy() for request in requests]
        try:
            logits = self._classifier.logits(np.concatenate(pixels))
        except Exception as error:
            return [error_response(internal_problem(error), request.request_id()) for request in requests]
        ends = np.cumsum([len(rows) for rows in pixels])[:-1]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("logits", rows)]) for rows in np.split(logits, ends)]
