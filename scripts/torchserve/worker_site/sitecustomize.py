"""Lets a worker of TorchServe begin without torch, and load it only if something uses it.

TorchServe's worker imports torch for a single check that an answer of bytes never reaches: 280 MB and a second or two
of every worker, whatever it computes with. So a worker's Python begins with a stand-in for torch, which becomes torch
at its first use. OpenVINO imports its converter of other formats if there is one: 14 MB and a tenth of a second. For
workers, which convert nothing, there is none.

Python runs a module of this name when it starts. `launch` puts this folder, which holds nothing else, on the servers'
PYTHONPATH.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import threading
from types import ModuleType

_NAME = "torch"
_CONVERTER = "openvino.tools.ovc"
_WORKER = os.path.join("ts", "model_service_worker.py")  # noqa: PTH118 - the start of every Python pays for what this imports


class Later(ModuleType):
    """A module that is imported when an attribute is read that tells more than where it lies."""

    def __init__(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Take the place of a module. A second `import` of it asks for its spec, which is the true one."""
        here = {"__spec__": spec, "__loader__": spec.loader, "__file__": spec.origin, "_lock": threading.RLock()}
        super().__init__(spec.name)
        self.__dict__.update(here)

    def __getattr__(self, name: str) -> object:
        """The true module's attribute."""
        return getattr(self._module(), name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set it in the true module."""
        setattr(self._module(), name, value)

    def __delattr__(self, name: str) -> None:
        """Delete it in the true module."""
        delattr(self._module(), name)

    def __dir__(self) -> list[str]:
        """The true module's names."""
        return dir(self._module())

    def _module(self) -> ModuleType:
        name: str = self.__dict__["__name__"]
        with self.__dict__["_lock"]:
            if sys.modules.get(name) is self:
                del sys.modules[name]
                try:
                    importlib.import_module(name)
                except BaseException:
                    sys.modules[name] = self
                    raise
            return sys.modules[name]


def _is_worker(arguments: list[str]) -> bool:
    return any(argument.endswith(os.sep + _WORKER) for argument in arguments)


def _run_the_one_behind() -> None:
    """Run the module of this name that this one hides, if there is one, as Python would have."""
    here = os.path.dirname(__file__)  # noqa: PTH120
    sys.path[:] = [entry for entry in sys.path if entry != here]
    this = sys.modules.pop(__name__)
    try:
        importlib.import_module(__name__)
    except ModuleNotFoundError as error:
        if error.name != __name__:
            raise
        sys.modules[__name__] = this


if _is_worker(sys.orig_argv):
    sys.modules[_CONVERTER] = None  # type: ignore[assignment] # None is what forbids an import
    found = importlib.util.find_spec(_NAME)
    if found is not None:
        sys.modules[_NAME] = Later(found)
_run_the_one_behind()
