"""The TorchScript runtime: a traced or scripted module, which needs no Python source of the model."""

import warnings

import torch
from torch import Tensor

from classifier.allocator import give_back
from classifier.errors import UnusableError
from classifier.normalization import laid_out, normalize
from classifier.runtimes import Forward, Source
from classifier.runtimes.tensors import forward_of, logits_of
from classifier.runtimes.torchscript_weights import map_weights


def load(source: Source) -> Forward:
    """Load a TorchScript file and freeze it: weights become constants of the graph.

    On a processor they stay mapped to the file, so that workers share them; those that torch folds into others do not.

    Raises:
        UnusableError: the file is not TorchScript.
        OSError: the file cannot be read.
    """
    path = source.path
    torch.set_num_threads(source.threads)
    with warnings.catch_warnings():
        # torch 2.14 deprecates torch.jit; this runtime stays because users have such files.
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        try:
            module = torch.jit.load(path, map_location=source.device).eval()
        except RuntimeError as error:
            raise UnusableError(f"{path.name} is not a TorchScript file: {error}") from error
        if source.device == "cpu":
            map_weights(module, path)
            give_back()  # the memory into which torch had copied them
        frozen = torch.jit.freeze(module) if hasattr(module, "training") else module  # else it was frozen before
    spec = source.recipe.input

    def compute(pixels: Tensor) -> Tensor:
        return logits_of(frozen(laid_out(normalize(pixels, spec), spec.layout)))

    # What is left of attributes when a module is frozen are those that it changes while it computes
    changes = frozen.inlined_graph.findAllNodes("prim::GetAttr") or frozen.inlined_graph.findAllNodes("prim::SetAttr")
    return forward_of(compute, source.device, 1 if changes else source.parts, one_at_a_time=bool(changes))
