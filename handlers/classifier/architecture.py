"""Builds a recipe's architecture: a class or function of one's own module, or a model of a library by its name.

flowers_net                        the one nn.Module class of handlers/flowers_net.py
nets:FlowerNet, nets:flower_net    a class or a function of handlers/nets.py
torchvision:resnet50               torchvision.models, without weights
timm:resnet18                      timm.create_model, without weights
transformers:ViTForImageClassification   a class of transformers; the arguments are those of its configuration
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from classifier.errors import UnusableError
from classifier.own_code import OwnCode, name_in_archive

Arguments = Mapping[str, Any]


def build(architecture: str, arguments: Arguments | None = None, code: OwnCode | None = None) -> nn.Module:
    """Build a module with its initial values.

    Args:
        architecture: as a recipe names it.
        arguments: keyword arguments of the class or function.
        code: an archive's own code, whose modules count before all others of their names.

    Raises:
        UnusableError: there is no such architecture, or it does not take these arguments; the message says which.
    """
    scheme, _, name = architecture.partition(":")
    of_library = (
        {"torchvision": _torchvision, "timm": _timm, "transformers": _transformers}.get(scheme) if name else None
    )
    given = dict(arguments or {})
    try:
        built = of_library(name, given) if of_library else _own(scheme, name, code)(**given)
    except UnusableError:
        raise
    except ModuleNotFoundError as error:
        why = _missing(name_in_archive(error.name or ""), scheme, of_library is not None)
        raise UnusableError(f"architecture {architecture}: {why}") from error
    except (Exception, SystemExit) as error:  # whatever the code of an architecture raises; a script ends the program
        taken = f" with arguments {given}" if given else ""
        raise UnusableError(
            f"architecture {architecture} cannot be built{taken}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(built, nn.Module):
        raise UnusableError(f"architecture {architecture} gives a {type(built).__name__}, not an nn.Module")
    return built


def _missing(name: str, scheme: str, of_library: bool) -> str:
    """What to do about a module that cannot be found: the architecture's own, its library, or one that it imports."""
    if not f"{scheme}.".startswith(f"{name}."):
        return f"module {name} is missing, which it needs; put it beside the architecture or into `requirements`"
    if of_library:
        return f"{scheme} is not installed; pip install {scheme}"
    return f"there is no handlers/{scheme.replace('.', '/')}.py"


def _own(module: str, name: str, code: OwnCode | None) -> Callable[..., Any]:
    """A class or function of a module: the named one, or the one nn.Module class that the module defines."""
    importing = code.import_module if code is not None and code.has(module) else importlib.import_module
    imported = importing(module)
    if name:
        found = getattr(imported, name, None)
        if not callable(found):
            callables = [item for item, value in vars(imported).items() if callable(value)]
            near = _near(name, callables)
            raise UnusableError(f"architecture {module}:{name}: {module} has no class or function {name}{near}")
        chosen: Callable[..., Any] = found
        return chosen
    classes = {
        item
        for _, item in inspect.getmembers(imported, inspect.isclass)
        if issubclass(item, nn.Module) and item.__module__ == imported.__name__
    }
    if len(classes) != 1:
        names = sorted(item.__name__ for item in classes)
        say = f"{', '.join(names)}; name one, as {module}:{names[0]}" if names else "none"
        raise UnusableError(f"architecture {module} must define exactly one nn.Module class; found: {say}")
    return classes.pop()


def _torchvision(name: str, arguments: dict[str, Any]) -> nn.Module:
    from torchvision.models import get_model, list_models

    if name not in list_models():
        raise UnusableError(
            f"architecture torchvision:{name}: torchvision has no model {name}{_near(name, list_models())}"
        )
    built: nn.Module = get_model(name, weights=None, **arguments)
    return built


def _timm(name: str, arguments: dict[str, Any]) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise UnusableError(f"architecture timm:{name}: timm has no model {name}{_near(name, timm.list_models())}")
    built: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    return built


def _transformers(name: str, arguments: dict[str, Any]) -> nn.Module:
    """A class of transformers whose forward returns the logits alone."""
    import transformers

    found = getattr(transformers, name, None)
    if not (inspect.isclass(found) and issubclass(found, nn.Module) and hasattr(found, "config_class")):
        raise UnusableError(f"architecture transformers:{name}: transformers has no model class {name}")
    parent: Any = found

    def forward(self: nn.Module, pixel_values: Tensor) -> Tensor:
        logits: Tensor = parent.forward(self, pixel_values, return_dict=True).logits
        return logits

    model = type(parent.__name__, (parent,), {"forward": forward, "__module__": parent.__module__})
    built: nn.Module = model(parent.config_class(**arguments))
    return built


def _near(name: str, names: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, names, 1)
    return f"; did you mean {near[0]}?" if near else ""
