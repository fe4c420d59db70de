"""Make's variables as options: `IMAGE=cat.jpg` is `--image=cat.jpg`.

Make passes what stood on its command line, and only that: a VERSION that is in the environment for another reason
changes nothing. Secrets alone come from the environment, where the list of processes does not show them.
"""

import ast
import importlib
import importlib.util
import inspect
import typing
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Final

from scripts.command_line.verbs import VERBS, Verb
from scripts.console import UserError

# What Make itself reads, and the secrets that programs read from the environment, into which make puts them.
MAKES_OWN: Final = ("PYTHON", "TORCH_INDEX", "CI")
SECRETS: Final = ("KEY_PASSPHRASE", "INFERENCE_TOKEN", "MANAGEMENT_TOKEN")

_NEVER_EMPTY: Final = ("PUBLIC_KEY",)  # an empty one is a mistake that must not mean "no check"
_NEAR: Final = 0.7  # how similar a name must be to be suggested, of 1; below, PICTURE is like SECURE
_YES: Final = ("1", "yes", "true", "on")
_NO: Final = ("0", "no", "false", "off")


class Variable(typing.NamedTuple):
    """A variable of a verb."""

    name: str
    kind: Any  # the parameter's type, without None
    required: bool
    default: Any

    @property
    def option(self) -> str:
        """As the program calls it."""
        return "--" + self.name.lower().replace("_", "-")

    @property
    def takes_many(self) -> bool:
        """Whether its value is a list, separated by spaces."""
        return typing.get_origin(self.kind) is tuple


def variables_of(verb: str) -> dict[str, Variable]:
    """The variables of a verb: the parameters of its function, in capital letters."""
    module, _, name = VERBS[verb].function.partition(":")
    function = getattr(importlib.import_module(module), name)
    kinds = typing.get_type_hints(function)
    found = {}
    for parameter in inspect.signature(function).parameters.values():
        variable = _variable_name(parameter.name)
        required = parameter.default is inspect.Parameter.empty
        found[variable] = Variable(variable, _without_none(kinds[parameter.name]), required, parameter.default)
    return found


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, UnionType):
        (kind,) = [member for member in typing.get_args(kind) if member is not type(None)]
    return kind


def options(verb: str, given: Sequence[str]) -> list[str]:
    """The options of a verb for variables of make, `NAME=value` each. Those that only other verbs have are left out.

    Raises:
        UserError: no verb has such a variable, one that this verb needs is missing, or a value is no switch.
    """
    own = variables_of(verb)
    if other := [item for item in given if "=" not in item]:
        raise UserError(f"{other[0]!r} is no variable: expected NAME=value")
    values = _with_weights(dict(item.split("=", 1) for item in given))
    for name in values.keys() - own.keys() - {*MAKES_OWN, *SECRETS}:
        _refuse_unknown(name, own)
    for name in _NEVER_EMPTY:
        if name in own and values.get(name) == "":
            raise UserError(f"{name} is empty: give it a value, or leave it out")
    values = {name: value for name, value in values.items() if value}
    for name, variable in own.items():
        if variable.required and name not in values:
            raise UserError(f"{name}=… is missing; see `make help`")
    return [word for name, variable in own.items() if name in values for word in _words(variable, values[name])]


def _with_weights(given: dict[str, str]) -> dict[str, str]:
    """`1.0=95 2.0=5`, which make takes for variables, as VERSIONS."""
    weights = [f"{name}={value}" for name, value in given.items() if name[0].isdigit()]
    rest = {name: value for name, value in given.items() if not name[0].isdigit()}
    return rest | ({"VERSIONS": " ".join(weights)} if weights else {})


def _refuse_unknown(name: str, own: Collection[str]) -> None:
    known = {variable for verb in VERBS.values() for variable in _names(verb)}
    if name not in known:
        near = get_close_matches(name, own, n=1, cutoff=_NEAR) or get_close_matches(name, known, n=1, cutoff=_NEAR)
        raise UserError(f"no target has a variable {name}" + (f"; did you mean {near[0]}?" if near else ""))


def _names(verb: Verb) -> list[str]:
    """The names of a verb's variables, read from its source: to import all verbs takes long, or packages too many."""
    module, _, name = verb.function.partition(":")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return []
    for node in ast.parse(Path(spec.origin).read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            return [_variable_name(argument.arg) for argument in arguments]
    return []


def _variable_name(parameter: str) -> str:
    return parameter.rstrip("_").upper()


def _words(variable: Variable, value: str) -> list[str]:
    if variable.kind is bool:
        if value.lower() not in _YES + _NO:
            raise UserError(f"{variable.name}={value}: expected 1 or 0")
        return [variable.option] if value.lower() in _YES else []
    # one path with spaces in it is one, if it is there
    many = value.split() if variable.takes_many and not Path(value).exists() else [value]
    return [f"{variable.option}={item}" for item in many]
