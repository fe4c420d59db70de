"""The eager runtime: the recipe's nn.Module with a state_dict, run as Python. All others are compared with it."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from classifier.architecture import build
from classifier.cpu import require_native_bfloat16
from classifier.errors import UnusableError
from classifier.normalization import normalize
from classifier.own_code import OwnCode
from classifier.recipe import Recipe
from classifier.runtimes import Forward, Source
from classifier.runtimes.tensors import forward_of, logits_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(source: Source) -> Forward:
    """Load a state_dict into the architecture's module.

    Its code may keep things in the module, or anywhere, while it computes. So batches stay whole, and take turns.

    Raises:
        UnusableError: the state_dict does not fit the architecture, or the processor lacks the precision.
        OSError: the file cannot be read.
    """
    if source.variant.precision == "bfloat16" and source.device == "cpu":
        require_native_bfloat16()
    torch.set_num_threads(source.threads)
    dtype = DTYPES[source.variant.precision]
    module = load_module(source.recipe, source.path, dtype, source.code)
    module.to(source.device).to(memory_format=torch.channels_last)
    spec = source.recipe.input
    return forward_of(
        lambda pixels: logits_of(module(normalize(pixels, spec).to(dtype))), source.device, one_at_a_time=True
    )


def load_module(
    recipe: Recipe, state_dict: Path, dtype: torch.dtype = torch.float32, code: OwnCode | None = None
) -> nn.Module:
    """Build the recipe's architecture and give it the weights, in evaluation mode, on the CPU.

    Args:
        recipe: names the architecture.
        state_dict: the file of weights.
        dtype: of the parameters.
        code: the archive's own code, if the weights are an archive's.

    Raises:
        UnusableError: the file is not a state_dict, or not of this architecture; or the recipe has a program instead.
        OSError: the file cannot be read.
    """
    if recipe.architecture is None:
        raise UnusableError(f"{recipe.name} is a program, which has no module in Python")
    weights = read_state_dict(state_dict)
    with _WithoutInitialValues():
        module = build(recipe.architecture, recipe.arguments, code)
    refuse_other_kinds(weights, module.state_dict(), state_dict.name)
    try:
        module.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        raise UnusableError(f"{state_dict.name} does not fit architecture {recipe.architecture}: {error}") from error
    return module.to(dtype).eval().requires_grad_(requires_grad=False)


def refuse_other_kinds(given: Mapping[str, Tensor], own: Mapping[str, Tensor], file: str) -> None:
    """Refuse whole or complex numbers for floating ones, which torch would take or convert in silence.

    Raises:
        UnusableError: there are such; a quantised checkpoint keeps the scales of its whole numbers elsewhere.
    """
    floating = [name for name, item in own.items() if name in given and item.is_floating_point()]
    odd = [name for name in floating if not given[name].is_floating_point()]
    if odd:
        kind = str(given[odd[0]].dtype).removeprefix("torch.")
        raise UnusableError(
            f"{file}: {len(odd)} tensors hold other numbers than the architecture's, the first {odd[0]}, {kind} in "
            "place of floating point; if the weights are quantised, save those from before, or dequantise them"
        )


class _WithoutInitialValues(TorchFunctionMode):
    """Makes torch.nn.init leave parameters alone: loading replaces their values, which take 2 s to compute for VGG16.

    Other tensors are filled: a state_dict does not bring a buffer that is not persistent.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            tensor = kwargs["tensor"] if "tensor" in kwargs else args[0]
            if isinstance(tensor, nn.Parameter):
                return tensor
        return func(*args, **kwargs)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state_dict without running any code that the file may carry.

    Raises:
        UnusableError: the file is not a state_dict.
        OSError: the file cannot be read.
    """
    with path.open("rb"):
        pass  # a missing file raises OSError, not UnusableError
    try:  # only the zip format of torch >= 1.6 can be mapped; torchvision's VGG16 is older
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch.load raises the exceptions of several readers
        # its own message about pickles recommends to run whatever the file carries
        pickled = isinstance(error, pickle.UnpicklingError)
        why = "it holds Python objects, or is damaged; save model.state_dict()" if pickled else error
        raise UnusableError(f"{path.name} is not a file of weights that torch can read safely: {why}") from error
    if not isinstance(weights, dict) or not all(isinstance(item, Tensor) for item in weights.values()):
        raise UnusableError(f"{path.name} is not a state_dict, a dictionary of tensors; save model.state_dict()")
    return weights
