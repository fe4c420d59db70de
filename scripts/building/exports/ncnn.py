"""Exports a model to an ncnn graph, by pnnx."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import ncnn
import pnnx
import torch
from classifier.runtimes.tensors import logits_of
from torch import Tensor, nn

from scripts.building.exports.program import Export, quiet
from scripts.console import UserError

_ELSEWHERE: Final = "build it for another runtime, such as onnxruntime or openvino"
_UNUSED: Final = ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy")  # what else pnnx writes


def export_ncnn(what: Export, path: Path) -> list[Path]:
    """Write a graph (.param) and its weights (.bin), of one picture: normalised floats [C,H,W] or [H,W,C] to logits.

    Returns:
        The file of the weights.

    Raises:
        UserError: the model cannot be converted.
    """
    name, spec = what.recipe.name, what.recipe.input
    if spec.batch not in (None, 1):
        raise UserError(f"ncnn computes one picture at a time, and {name} takes {spec.batch}; {_ELSEWHERE}")
    shape = [1, *spec.size, spec.depth] if spec.layout == "nhwc" else [1, spec.depth, *spec.size]
    weights = path.with_suffix(".bin")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        program = Path(folder) / "program.pt"
        with quiet():
            torch.jit.save(_graph(what, torch.zeros(shape)), program)
        _convert(name, program, shape, path, weights)
    _refuse_unknown_layers(name, path)
    return [weights]


def _graph(what: Export, example: Tensor) -> Any:
    """The module as a graph of TorchScript, which pnnx reads.

    Raises:
        UserError: torch.jit cannot trace it.
    """
    if isinstance(what.module, torch.jit.ScriptModule):  # pnnx fails on scripted ones whose weights are no constants
        return torch.jit.freeze(what.module) if hasattr(what.module, "training") else what.module
    module = _Logits(what.module)
    module.training = False  # of this module alone: a program of torch.export has no eval()
    try:
        return torch.jit.trace(module, example, check_trace=False)  # the parity gate checks it on real pictures
    except Exception as error:  # whatever the model's code raises
        raise UserError(f"torch.jit cannot trace {what.recipe.name}, as pnnx needs it: {error}") from error


class _Logits(nn.Module):
    """A model whose only output are its logits."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, floats: Tensor) -> Tensor:
        """Compute."""
        return logits_of(self.module(floats))


def _convert(name: str, program: Path, shape: list[int], graph: Path, weights: Path) -> None:
    """Have pnnx write an ncnn graph and its weights, in float32.

    Raises:
        UserError: pnnx fails.
    """
    written = {"ncnnparam": graph.resolve(), "ncnnbin": weights.resolve()}
    options = [f"{option}={value}" for option, value in (written | dict.fromkeys(_UNUSED, Path("/dev/null"))).items()]
    command = [pnnx.EXEC_PATH, program.name, f"inputshape={str(shape).replace(' ', '')}f32", "fp16=0", *options]
    result = subprocess.run(command, cwd=program.parent, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode != 0 or not graph.exists() or not weights.exists():
        said = result.stderr.strip().splitlines()[-1:] or [f"it ended with {result.returncode}"]
        raise UserError(f"pnnx cannot convert {name}: {said[0]}; {_ELSEWHERE}")


def _refuse_unknown_layers(name: str, graph: Path) -> None:
    """Refuse a graph in which pnnx left operators that it cannot convert.

    Raises:
        UserError: there are some; the message names them.
    """
    kinds = dict.fromkeys(line.split()[0] for line in graph.read_text().splitlines()[2:])
    if unknown := [kind for kind in kinds if ncnn.layer_to_index(kind) < 0]:
        raise UserError(f"ncnn has no {', '.join(unknown)}, which {name} computes with; {_ELSEWHERE}")
