"""Maps the weights of a TorchScript file, so that all processes that load it share their memory.

torch.jit.load copies the weights into memory of the process. They lie in the file as they lie in memory: it is a zip
archive without compression, whose `data.pkl` says which tensor lies in which of its records.
"""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import UntypedStorage
from torch.jit import ScriptModule


class _Place(NamedTuple):
    """Where a tensor lies: the name of its record, and how it lies in it, counted in elements."""

    record: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def map_weights(module: ScriptModule, path: Path) -> None:
    """Have the parameters and buffers of a module on the CPU lie in the file that it was loaded from.

    What is not found there stays as it is: weights that are quantised or compressed, and tensors in lists.

    Args:
        module: as torch.jit.load returned it.
        path: the file, which must not change as long as the module is used.
    """
    reader = torch._C.PyTorchFileReader(str(path))
    described = _Reader(io.BytesIO(reader.get_record("data.pkl"))).load()
    with zipfile.ZipFile(path) as packed:
        plain = {
            item.filename.partition("/")[2] for item in packed.infolist() if item.compress_type == zipfile.ZIP_STORED
        }
    content = UntypedStorage.from_file(str(path), False, path.stat().st_size)  # a private copy of what is written to
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            place = _found(described, name)
            if place is not None and place.record in plain and tensor.shape == place.size:
                start = reader.get_record_offset(place.record)  # type: ignore[attr-defined] # torch's types lack it
                end = start + reader.get_record_size(place.record)
                tensor.set_(content[start:end], place.offset, place.size, place.stride)


def _found(described: object, name: str) -> _Place | None:
    """The place of the tensor that a module has under a name with dots."""
    for part in name.split("."):
        described = getattr(described, part, None)
    return described if isinstance(described, _Place) else None


class _Inert:
    """Stands for an object of any class: it takes attributes, and does nothing."""

    def __init__(self, *_: object) -> None:
        """Take whatever the file says."""

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class _Reader(pickle.Unpickler):
    """Reads the places of tensors; nothing that a file names is imported or called."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or a function of the file."""
        return _place if (module, name) == ("torch._utils", "_rebuild_tensor_v2") else _Inert

    def persistent_load(self, pid: Any) -> Any:
        """The name of the record that holds a storage."""
        _, _, key, _, _ = pid
        return f"data/{key}"


def _place(record: str, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> _Place:
    return _Place(str(record), offset, size, stride)
