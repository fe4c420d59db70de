"""The program itself: `image-classifier <verb> [options]`."""

import difflib
import importlib.metadata
import importlib.util
import sys
from typing import Any, Final

from cyclopts import App, Group, Parameter
from rich.console import Console

from scripts.command_line.variables import options
from scripts.command_line.verbs import SECTIONS, VERBS, MakeTarget, Verb
from scripts.console import UserError, run
from scripts.packages import require

_WIDTH: Final = 100  # columns of the help
_FROM_MAKE: Final = "make"  # `image-classifier make <verb> NAME=value …` is how the Makefile calls it

_DISTRIBUTION: Final = "torchserve-image-classifier"


def application() -> App:
    """The command line, without any verb's module imported."""
    app = App(
        name="image-classifier",
        help="A PyTorch image classifier in production on TorchServe. Each verb is also a Make target.",
        version=lambda: importlib.metadata.version(_DISTRIBUTION),
        console=Console(width=_WIDTH),
        default_parameter=Parameter(consume_multiple=True, negative=(), show_default=_worth_showing),
    )
    for title, targets in SECTIONS:
        group = Group.create_ordered(title)
        for place, verb in enumerate(targets):
            if isinstance(verb, Verb) and is_installed(verb):
                app.command(verb.function, name=verb.name, help=_sentence(verb.summary), group=group, sort_key=place)
    return app


def is_installed(verb: Verb) -> bool:
    """Whether the module of the verb's function is there."""
    module, _, _ = verb.function.partition(":")
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _unknown(word: str, app: App) -> str:
    """What to say of it; Cyclopts would import the module of every verb to say the same."""
    if any(isinstance(target, MakeTarget) and target.name == word for _, targets in SECTIONS for target in targets):
        return f"`make {word}` is a target of the Makefile alone"
    near = difflib.get_close_matches(word, [name for name in app if not name.startswith("-")], n=1)
    meant = f' Did you mean "{near[0]}"?' if near else ""
    return f'Unknown command "{word}".{meant} See `image-classifier --help`.'


def _worth_showing(value: Any) -> Any:
    return None if value in (None, False, ()) else value


def _sentence(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."


def main() -> None:
    """Run what the command line says."""
    run(lambda: _run(sys.argv[1:]))


def _run(words: list[str]) -> None:
    app = application()
    if words[:1] == [_FROM_MAKE] and words[1:2] and words[1] in VERBS:
        name, *variables = words[1:]
        words = [name, *options(name, variables)]
    if words and not words[0].startswith("-") and words[0] not in app:
        raise UserError(_unknown(words[0], app))
    function, arguments, _ = app.parse_args(words)
    verb = VERBS.get(words[0]) if words else None
    if verb is not None and verb.function.endswith(f":{function.__name__}"):  # not its help, which installs nothing
        require(*verb.needs, why=f"`{verb.name}`")
    function(*arguments.args, **arguments.kwargs)
