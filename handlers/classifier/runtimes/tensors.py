"""Converts between numpy's arrays, in which runtimes take pixels and return logits, and torch's tensors on a device."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classifier.forks import OneAtATime
from classifier.runtimes import Forward
from classifier.runtimes.parts import in_parts


def forward_of(
    compute: Callable[[Tensor], Tensor], device: str, parts: int = 1, *, one_at_a_time: bool = False
) -> Forward:
    """Wrap a function on tensors, from uint8 [N,H,W,3] on the device to logits [N,classes], as a forward function.

    Args:
        compute: the function.
        device: as torch names it.
        parts: into how many a batch is divided, each for one thread.
        one_at_a_time: whether threads take turns, because the function keeps something while it computes.
    """
    turns = OneAtATime() if one_at_a_time else None

    @torch.inference_mode()
    def forward(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with turns.taken() if turns else nullcontext():
            logits: NDArray[np.float32] = compute(to_device(pixels, device)).float().cpu().numpy()
            return logits

    def with_threads(number: int, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        torch.set_num_threads(number)  # OpenMP's number of this thread; MKL's of the process
        return forward(pixels)

    if parts == 1:
        return forward
    divided = in_parts(parts, partial(with_threads, 1), partial(with_threads, parts))

    def restoring(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        before = torch.get_num_threads()
        try:
            return divided(pixels)
        finally:
            torch.set_num_threads(before)  # the caller's own, with which a new thread begins as well

    return restoring


def logits_of(output: Any) -> Tensor:
    """The logits among a module's outputs: the output itself, the first of several, or the one named `logits`.

    Raises:
        TypeError: it gives no tensor.
    """
    if isinstance(output, dict) and output:
        output = output["logits"] if "logits" in output else next(iter(output.values()))
    elif isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise TypeError(f"the model gives a {type(output).__name__}, not a tensor of logits")
    return output


def to_device(pixels: NDArray[np.uint8], device: str) -> Tensor:
    """Copy pixels to a tensor on a device.

    On their way to a GPU they go through page-locked memory, from which the GPU can copy without the processor.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(pixels))  # compiled code takes the layout for granted
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
