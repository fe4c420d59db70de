"""The TorchScript runtime: a traced or scripted module, which needs no Python source of the model."""

import warnings

import torch
from torch import Tensor

from classifier.errors import UnusableError
from classifier.preprocess import normalize
from classifier.runtimes import Forward, Source


def load(source: Source, device: str) -> Forward:
    """Load a TorchScript file and freeze it: weights become constants of the graph.

    Raises:
        UnusableError: the file is not TorchScript.
        OSError: the file cannot be read.
    """
    path = source.directory / source.serialized_file
    with path.open("rb"):
        pass  # that there is no such file is an error of its own
    with warnings.catch_warnings():
        # torch 2.14 deprecates torch.jit; this runtime stays because users have such files.
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        try:
            module = torch.jit.load(path, map_location=device).eval()
        except RuntimeError as error:
            raise UnusableError(f"{path.name} is not a TorchScript file: {error}") from error
        frozen = torch.jit.freeze(module)
    normalization = source.recipe.input.normalization

    @torch.inference_mode()
    def forward(pixels: Tensor) -> Tensor:
        logits: Tensor = frozen(normalize(pixels.to(device), normalization))
        return logits.cpu()

    return forward
