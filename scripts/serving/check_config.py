"""Say what is dangerous or slow in a config.properties of TorchServe, and why: `make check-config CONFIG=…`.

Exit code 1 if anything is, or, with --production, if anything is loosened that only development may have.
"""

import argparse
from pathlib import Path
from typing import Final

from classifier.cpu import usable_cores
from rich.table import Table

from scripts.console import UserError, done, out, run
from scripts.torchserve.config import CONFIG_FILE
from scripts.torchserve.config_check import check, verdict
from scripts.torchserve.config_rules import Finding

_STYLES: Final = {"danger": "bold red", "trouble": "yellow", "loosened": "cyan", "note": "dim"}


def _table(path: Path, found: list[tuple[int | None, Finding]]) -> Table:
    table = Table("", "line", "setting", "why, and what else", title=str(path), title_justify="left")
    for line, finding in found:
        where = "not said" if line is None else str(line)
        table.add_row(finding.level, where, finding.setting, finding.text, style=_STYLES[finding.level])
    return table


def main() -> None:
    """Check the file of the command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.serving.check_config", description=__doc__)
    parser.add_argument("config", type=Path, nargs="?", default=CONFIG_FILE)
    parser.add_argument("--production", action="store_true", help="allow nothing that is for development only")
    parser.add_argument(
        "--cores", type=int, default=usable_cores(), help="of the machine that it is for; default: here"
    )
    arguments = parser.parse_args()
    found = check(arguments.config, arguments.cores)
    if found:
        out.print(_table(arguments.config, found), soft_wrap=False)
    if reason := verdict([finding for _, finding in found], arguments.production):
        raise UserError(f"{arguments.config}: {reason}")
    done(f"{arguments.config} passes" + (" for production" if arguments.production else ""))


if __name__ == "__main__":
    run(main)
