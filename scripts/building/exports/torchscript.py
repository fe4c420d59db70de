"""Exports a model to a TorchScript file, traced or scripted."""

import shutil
import warnings
from pathlib import Path

import torch

from scripts.building.exports.program import Export
from scripts.console import UserError


def export_torchscript(what: Export, path: Path) -> None:
    """Write a TorchScript file: float32 [N,3,H,W], normalised, to logits.

    Raises:
        UserError: torch.jit cannot trace or script the module.
    """
    if what.program is not None:
        shutil.copyfile(what.program, path)
        return
    try:
        _write_torchscript(what, path)
    except Exception as error:  # the compiler raises many exceptions for code that it cannot compile
        other = "trace" if what.torchscript == "script" else "script"
        raise UserError(
            f"torch.jit cannot {what.torchscript} {what.recipe.name}: {error}\nTry TORCHSCRIPT={other}."
        ) from error


def _write_torchscript(what: Export, path: Path) -> None:
    spec = what.recipe.input
    with warnings.catch_warnings():
        # torch 2.14 deprecates torch.jit; the runtime stays because users have such files.
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        if what.torchscript == "trace":
            # check_trace runs the model again to compare; the parity gate does that on real pictures
            program = torch.jit.trace(what.module, torch.zeros(1, spec.depth, *spec.size), check_trace=False)
        else:
            program = torch.jit.script(what.module)
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
