"""The OpenVINO runtime: a graph that is optimised at loading for the processor, Intel's, AMD's or ARM's."""

import threading

import numpy as np
import openvino
from numpy.typing import NDArray

from classifier.cpu import require_native_bfloat16
from classifier.errors import UnusableError
from classifier.forks import never_ends_in_forks
from classifier.runtimes import Forward, Source

# The layers of an int8 graph that are not quantised stay in float32.
_FLOATS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


def load(source: Source) -> Forward:
    """Load an OpenVINO graph (.xml, weights in the .bin beside it) that takes uint8 [N,H,W,3].

    The weights stay mapped to their file, so that workers share what the compiler does not have to rearrange.

    Raises:
        UnusableError: the file is not an OpenVINO graph, or the processor lacks the precision.
        OSError: the file cannot be read.
    """
    path = source.path
    with path.with_suffix(".bin").open("rb"):
        pass  # missing weights raise OSError, not UnusableError
    if source.variant.precision == "bfloat16":
        require_native_bfloat16()
    settings = {
        # By default OpenVINO uses bfloat16 wherever the processor has it, whatever the recipe says
        "INFERENCE_PRECISION_HINT": _FLOATS[source.variant.precision],
        "INFERENCE_NUM_THREADS": source.threads,
        "PERFORMANCE_HINT": "LATENCY",  # all threads on one batch at a time
        # With pinning every process ties its threads to the first cores, so two workers use the same cores
        "ENABLE_CPU_PINNING": False,
    }
    try:
        request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    except RuntimeError as error:
        raise UnusableError(f"{path.name} is not an OpenVINO graph: {error}") from error

    never_ends_in_forks(request)
    one_at_a_time = threading.Lock()  # a request has one buffer for logits, and refuses a second thread

    def forward(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with one_at_a_time:
            request.infer([pixels], share_inputs=True)
            # a copy, because the next batch reuses the buffer
            return np.array(request.get_output_tensor(0).data, np.float32)

    return forward
