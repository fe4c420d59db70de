"""The lists of targets that people read: what `make help` prints, and the README's table.

Both are written from the verbs and the parameters of their functions, and a test holds them to that: `make help` must
answer on a machine where nothing is installed yet.
"""

import textwrap
from pathlib import Path
from typing import Any, Final, get_args

from scripts.command_line.variables import SECRETS, Variable, variables_of
from scripts.command_line.verbs import SECTIONS, Verb
from scripts.console import done
from scripts.pages import markdown, replace_block

TARGETS: Final = Path("scripts/command_line/targets.txt")
README: Final = Path("README.md")

_WIDTH: Final = 100  # columns
_INDENT: Final = " " * 25
_COMMON: Final = ("STORE", "STATE")  # of so many targets that each of them need not say it
_PLACEHOLDERS: Final[dict[type, str]] = {Path: "<path>", int: "<number>", float: "<number>", str: "…"}
_HEAD: Final = """\
make <target> [NAME=value …]
`.venv/bin/image-classifier <target> --help` explains a target's variables, after `make setup`.
"""
_FOOT: Final = f"""
Nearly all take STORE=model_store, the folder of archives, and STATE=.torchserve, the server's.
A variable counts on make's command line, not in the environment. Secrets come from the environment:
{", ".join(SECRETS)}.
"""


def targets() -> str:
    """What `make help` prints."""
    lines = [_HEAD]
    for title, found in SECTIONS:
        lines.append(title)
        for target in found:
            lines.append(f"  make {target.name:<{len(_INDENT) - 8}} {target.summary}")
            words = [in_help(variable) for variable in _own(target)] if isinstance(target, Verb) else []
            lines += textwrap.wrap(
                " ".join(words), _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False
            )
        lines.append("")
    return "\n".join(lines) + _FOOT


def _own(verb: Verb) -> list[Variable]:
    """Its variables, those that it cannot do without first."""
    found = [variable for variable in variables_of(verb.name).values() if variable.name not in _COMMON]
    return sorted(found, key=lambda variable: not variable.required)


def in_help(variable: Variable) -> str:
    """A variable and what may stand behind it: `GRPC=1`, `PORTS=config|free`, `IMAGE=<path>`."""
    kind: Any = variable.kind
    if kind is bool:
        return f"{variable.name}=1"
    if variable.takes_many:
        (kind, _) = get_args(kind)
        default = () if variable.required else variable.default
        words = map(str, default) if default else (*(get_args(kind)[:2] or [_PLACEHOLDERS[kind]]), "…")
        text = " ".join(words)
        return f'{variable.name}="{text}"'
    if choices := get_args(kind):
        return f"{variable.name}={'|'.join(choices)}"
    text = _PLACEHOLDERS[kind] if variable.required or variable.default is None else str(variable.default)
    return f"{variable.name}={text}"


def table() -> str:
    """The README's table: a row for each section."""
    rows = [[" ".join(f"`{target.name}`" for target in found), title.lower()] for title, found in SECTIONS]
    return markdown([["target", "what for"], *rows])


def main() -> None:
    """Write the lists of targets that people read."""
    TARGETS.write_text(targets())
    replace_block(README, "reference", table())
    done(f"{TARGETS} and the table of {README}")
