"""Finds what is dangerous or slow in a config.properties of TorchServe, and says why: `make check-config CONFIG=…`.

The exit code is 1 if there is anything, or, with --production, if a setting is loosened as only development may do.
"""

from pathlib import Path
from typing import Final

from classifier.cpu import usable_cores
from rich.table import Table

from scripts.console import UserError, done, out
from scripts.torchserve.config import CONFIG_FILE
from scripts.torchserve.config_check import check, verdict
from scripts.torchserve.config_settings import Finding

_STYLES: Final = {"danger": "bold red", "trouble": "yellow", "loosened": "cyan", "note": "dim"}


def _table(path: Path, found: list[tuple[int | None, Finding]]) -> Table:
    table = Table("", "line", "setting", "why, and what to do", title=str(path), title_justify="left")
    for line, finding in found:
        where = "not set" if line is None else str(line)
        table.add_row(finding.level, where, finding.setting, finding.text, style=_STYLES[finding.level])
    return table


def main(config: Path = CONFIG_FILE, *, production: bool = False, cores: int | None = None) -> None:
    """Find what is dangerous or slow in a configuration.

    Args:
        config: the file.
        production: refuse settings that are only for development.
        cores: number of cores of the machine that serves; this machine's without it.
    """
    found = check(config, cores or usable_cores())
    if found:
        out.print(_table(config, found), soft_wrap=False)
    if reason := verdict([finding for _, finding in found], production):
        raise UserError(f"{config}: {reason}")
    done(f"{config} passes" + (" for production" if production else ""))
