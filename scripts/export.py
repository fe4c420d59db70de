"""A model to the file that a runtime loads. The other half of each runtime is in classifier/runtimes."""

import warnings
from pathlib import Path
from typing import Literal

import torch
from classifier.recipe import Recipe, RuntimeName
from torch import nn

from scripts.console import UserError

TorchScriptMethod = Literal["trace", "script"]

SUFFIX: dict[RuntimeName, str] = {"eager": ".pth", "torchscript": ".pt"}


def export(runtime: RuntimeName, module: nn.Module, recipe: Recipe, path: Path, method: TorchScriptMethod) -> None:
    """Write what `runtime` loads, with no path of this machine in it.

    The bytes are the same in every fresh process of the same hash seed: torch numbers the classes that it has compiled.

    Raises:
        UserError: the module cannot be exported that way.
    """
    if runtime == "eager":
        torch.save(module.state_dict(), path)
        return
    try:
        _export_torchscript(module, recipe.input.crop, path, method)
    except Exception as error:  # the compiler refuses Python in many ways
        other = "trace" if method == "script" else "script"
        raise UserError(f"torch.jit cannot {method} {recipe.name}: {error}\nTry TORCHSCRIPT={other}.") from error


def _export_torchscript(module: nn.Module, side: int, path: Path, method: TorchScriptMethod) -> None:
    with warnings.catch_warnings():
        # torch 2.14 deprecates torch.jit; the runtime stays because users have such files.
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        if method == "trace":
            # check_trace runs the model again to compare; the parity gate does that on real pictures
            program = torch.jit.trace(module, torch.zeros(1, 3, side, side), check_trace=False)
        else:
            program = torch.jit.script(module)
        saved = path.with_suffix(".saved")
        torch.jit.save(program, saved)
    _drop_debug_records(saved, path)
    saved.unlink()


def _drop_debug_records(source: Path, target: Path) -> None:
    """Copy a TorchScript file without its debug records: they hold file paths of the machine that exported it."""
    reader = torch._C.PyTorchFileReader(str(source))
    writer = torch._C.PyTorchFileWriter(str(target))
    own = ("version", "byteorder", ".data/serialization_id")  # the writer writes these itself
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in own:
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
