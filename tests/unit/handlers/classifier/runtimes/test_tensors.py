from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from classifier.runtimes.tensors import forward_of, logits_of, to_device
from torch import Tensor

PIXELS = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is done to a tensor on its way to a device. There need be no GPU: the tensor stays where it is."""
    made: list[object] = []

    def pin_memory(tensor: Tensor) -> Tensor:
        made.append("pin_memory")
        return tensor

    def to(tensor: Tensor, *where: Any, **how: Any) -> Tensor:
        made.append((*where, how))
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(Tensor, "to", to)
    return made


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1"])
def test_pixels_go_to_a_gpu_through_page_locked_memory_without_waiting(calls: list[object], device: str) -> None:
    tensor = to_device(PIXELS, device)
    assert calls == ["pin_memory", (device, {"non_blocking": True})]
    assert tensor.tolist() == PIXELS.tolist()


def test_pixels_for_the_processor_are_not_pinned(calls: list[object]) -> None:
    assert to_device(PIXELS, "cpu").tolist() == PIXELS.tolist()
    assert "pin_memory" not in calls
    assert not any(isinstance(call, tuple) and call[-1].get("non_blocking") for call in calls)


def test_pixels_for_the_processor_are_not_copied() -> None:
    tensor = to_device(PIXELS, "cpu")
    assert (tensor.dtype, tensor.device.type, tuple(tensor.shape)) == (torch.uint8, "cpu", PIXELS.shape)
    assert tensor.data_ptr() == PIXELS.ctypes.data


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_logits_are_float32_whatever_the_model_computes_in(precision: torch.dtype) -> None:
    logits = forward_of(lambda pixels: pixels[:, 0, 0].to(precision), "cpu")(PIXELS)
    assert isinstance(logits, np.ndarray)
    assert logits.dtype == np.float32
    assert logits.tolist() == [[0, 1, 2], [48, 49, 50]]


def test_a_forward_function_computes_without_gradients() -> None:
    weight, modes = torch.ones(3, requires_grad=True), []

    def compute(pixels: Tensor) -> Tensor:
        modes.append(torch.is_inference_mode_enabled())
        return pixels[:, 0, 0] * weight

    assert forward_of(compute, "cpu")(PIXELS).tolist() == [[0, 1, 2], [48, 49, 50]]
    assert modes == [True]


LOGITS, OTHER = torch.zeros(1, 2), torch.ones(1, 5)


class Several(NamedTuple):
    """As Inception gives in training."""

    main: Tensor
    auxiliary: Tensor


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        (LOGITS,),
        [LOGITS, OTHER],
        Several(LOGITS, OTHER),
        {"out": LOGITS, "aux": OTHER},
        {"loss": OTHER, "logits": LOGITS},
    ],
    ids=["tensor", "tuple", "list", "named tuple", "dictionary", "dictionary with logits"],
)
def test_the_logits_are_the_output_its_first_or_the_one_of_that_name(output: object) -> None:
    assert logits_of(output) is LOGITS


@pytest.mark.parametrize("output", [None, (), [], {}, (None, LOGITS), {"logits": "many"}, 3.0])
def test_what_gives_no_tensor_is_said(output: object) -> None:
    with pytest.raises(TypeError, match="not a tensor of logits"):
        logits_of(output)
