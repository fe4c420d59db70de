"""The ONNX Runtime runtime: an ONNX graph, on the processor or on NVIDIA's GPUs."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from classifier.errors import UnusableError
from classifier.forks import never_ends_in_forks
from classifier.runtimes import Forward, Source, weights_beside
from classifier.runtimes.parts import in_memory_twice, in_parts

_CUDA = "CUDAExecutionProvider"  # in the package onnxruntime-gpu


def load(source: Source) -> Forward:
    """Load an ONNX file whose graph takes uint8 [N,H,W,3]: normalisation is part of it.

    Weights that lie in a file beside it are mapped, so that several workers share their memory. Those of convolutions
    are the exception: ONNX Runtime rearranges them for the processor. So it does with all weights of a single worker,
    which has nobody to share them with: with weights as they are, VGG16 takes up to a quarter more time.

    Raises:
        UnusableError: the file is not ONNX, or its weights are not all there.
        OSError: the file cannot be read.
    """
    path = source.path
    together = _session(source, source.threads)
    if source.parts == 1 or not in_memory_twice(path, *_beside(path)):
        return together
    return in_parts(source.parts, _session(source, 1), together)


def _beside(path: Path) -> list[Path]:
    """The file of weights beside a graph, if there is one."""
    return [weights for weights in [weights_beside(path)] if weights.exists()]


def _session(source: Source, threads: int) -> Forward:
    """The graph in a session with that many threads; errors as of `load`."""
    path = source.path
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if source.recipe.serving.workers > 1 and _beside(path):
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        session = never_ends_in_forks(onnxruntime.InferenceSession(path, options, providers=_providers(source.device)))
    except Exception as error:  # ONNX Runtime's exceptions have no class in common
        raise UnusableError(f"{path.name} is not an ONNX file that ONNX Runtime can run: {error}") from error
    (pixels_input,) = session.get_inputs()

    def forward(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        (logits,) = session.run(None, {pixels_input.name: pixels})
        return np.asarray(logits, np.float32)

    return forward


def _providers(device: str) -> list[str | tuple[str, dict[str, str]]]:
    """The execution providers, best first: without the GPU package only the processor's."""
    kind, _, number = device.partition(":")
    if kind == "cuda" and _CUDA in onnxruntime.get_available_providers():
        return [(_CUDA, {"device_id": number or "0"}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]
