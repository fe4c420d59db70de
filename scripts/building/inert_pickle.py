"""Unpickles tensors and nothing else: a stand-in for the module `pickle` in torch.load.

Checkpoints hold arbitrary objects beside the tensors: settings, optimiser states, callbacks. Their classes are neither
needed nor trusted, so each of them becomes an inert one, whose objects take whatever the file gives them and do
nothing. Functions become inert in the same way, whatever their name. The few functions that make tensors are replaced
by those of this module.
"""

import pickle
import types
from collections.abc import Callable
from typing import IO, Any, Final

import torch
from torch import Tensor
from torch.serialization import StorageType


class _Sealed(type):
    """A class that a file cannot change."""

    def __setattr__(cls, name: str, value: object) -> None:
        """Change nothing: pickles can set attributes of whatever they name."""


class Inert(dict[Any, Any], metaclass=_Sealed):
    """An object of a class that is not loaded. As a dictionary, for its class may be one: it keeps items and state."""

    __slots__ = ("state",)
    __hash__ = object.__hash__  # type: ignore[assignment]  # it may be a key
    dump_patches = False  # torch asks this of the class of a module

    def __new__(cls, *_args: object, **_options: object) -> "Inert":
        """Make an object, whatever the arguments."""
        made = super().__new__(cls)
        made.state = None
        return made

    def __init__(self, *_args: object, **_options: object) -> None:
        """Leave the arguments alone."""

    def __eq__(self, other: object) -> bool:
        """Whether it is the same object."""
        return self is other

    def __call__(self, *_args: object, **_options: object) -> "Inert":
        """Be called, where it stands for something that can be."""
        return Inert()

    def __setstate__(self, state: object) -> None:
        """Keep the state."""
        self.state = state

    def append(self, _item: object) -> None:
        """Take an item of a list."""

    def extend(self, _items: object) -> None:
        """Take items of a list."""

    def add(self, _item: object) -> None:
        """Take an item of a set."""


class _Ordered(Inert):
    """An OrderedDict. Pickles of Python 2 give its items as an argument."""

    __slots__ = ()

    def __init__(self, items: object = (), **_options: object) -> None:
        """Take the items."""
        dict.__init__(self, items)  # type: ignore[call-overload]


class OddTensor(Inert):
    """A tensor of another kind than those that are read. Its state says which."""

    __slots__ = ()


class _Rebuild:
    """A function that makes a tensor, in a box whose content a pickle can change only for itself."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._function(*args, **options)


def _inert(module: str, name: str) -> type[Inert]:
    """An inert class; torch must not look for its source, so that it pretends to be of this module."""
    members = {"__slots__": (), "__module__": __name__, "__doc__": f"{module}.{name}"}
    made: type[Inert] = types.new_class(name or "unnamed", (Inert,), exec_body=lambda body: body.update(members))
    return made


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_gradient: object) -> Tensor:
    made: Tensor = torch._utils._rebuild_tensor(storage, offset, size, stride)
    return made


def _tensor_of(
    storage: Any,
    offset: int,
    size: Any,
    stride: Any,
    _gradient: object,
    _hooks: object,
    dtype: torch.dtype,
    *_metadata: object,
) -> Tensor:
    made = torch.empty((0,), dtype=dtype)
    return made.set_(storage._untyped_storage, offset, size, stride)


def _first(data: Any, *_rest: object) -> Any:
    return data


def _odd(kind: str) -> Callable[..., OddTensor]:
    def make(*_arguments: object) -> OddTensor:
        made = OddTensor()
        made.state = kind
        return made

    return make


def _of_type(function: Any, _type: object, args: Any, _state: object) -> Any:
    """A plain tensor in place of one of a subclass."""
    return function(*args) if isinstance(function, _Rebuild) else Inert()


def _attribute(_owner: object, name: object, *_default: object) -> type[Inert]:
    """A class inside a class, which old protocols look up with getattr."""
    return _inert("", str(name))


_REBUILDS: Final[dict[tuple[str, str], Callable[..., Any]]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _first,
    ("torch._utils", "_rebuild_qtensor"): _odd("quantised"),
    ("torch._utils", "_rebuild_sparse_tensor"): _odd("sparse"),
    ("torch._utils", "_rebuild_sparse_csr_tensor"): _odd("sparse"),
    ("torch._utils", "_rebuild_nested_tensor"): _odd("nested"),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _odd("without values (on the device meta)"),
    ("torch._tensor", "_rebuild_from_type"): _of_type,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
    ("builtins", "getattr"): _attribute,
    ("__builtin__", "getattr"): _attribute,
}


class Unpickler(pickle.Unpickler):
    """Knows tensors; all else is inert."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the file stands for."""
        if (function := _REBUILDS.get((module, name))) is not None:
            return _Rebuild(function)
        if (module, name) == ("collections", "OrderedDict"):
            return _Ordered
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return StorageType("ByteStorage")  # bytes too, and not a class that a pickle could change
        if module == "torch" and isinstance(dtype := vars(torch).get(name), torch.dtype):
            return dtype
        return _inert(module, name)


def load(file: IO[bytes], **options: Any) -> Any:
    """Unpickle one object."""
    return Unpickler(file, **options).load()
