"""Checks a config.properties of TorchServe, and the archives of its model store, against every rule."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import javaproperties

from scripts.archives.store import archives_in, read_archive_recipe
from scripts.console import UserError
from scripts.torchserve.config import with_absolute_files
from scripts.torchserve.config_rules import findings
from scripts.torchserve.config_settings import Finding, Settings


def check(path: Path, cores: int) -> list[tuple[int | None, Finding]]:
    """The findings about a file, each with the number of its line, or None if the file does not have the setting.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        content = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from error
    lines: dict[str, int] = {}
    said: dict[str, str] = {}
    found: list[tuple[int | None, Finding]] = []
    number = 1
    for item in javaproperties.parse(content):
        if isinstance(item, javaproperties.KeyValue):
            if item.key in said:
                text = f"already set in line {lines[item.key]}; TorchServe takes the last one"
                found.append((number, Finding("trouble", item.key, text)))
            said[item.key], lines[item.key] = item.value, number
        number += item.source.count("\n")
    settings = Settings(with_absolute_files(said, path.parent), cores)
    found += [(lines.get(finding.setting), finding) for finding in findings(settings)]
    return found + [
        (lines.get("model_store"), finding) for finding in _archives(Path(said.get("model_store", "")), cores)
    ]


def _archives(store: Path, cores: int) -> Iterator[Finding]:
    """Find archives that this project did not build, or that compute with more threads than there are cores."""
    for archive in archives_in(store) if store != Path() else []:
        try:
            serving = read_archive_recipe(archive).serving
        except UserError as error:
            yield Finding("trouble", "model_store", str(error))
            continue
        if not isinstance(serving.threads, str) and serving.workers * serving.threads > cores:
            threads = f"{serving.workers} x {serving.threads} threads on {cores} cores"
            text = f"{archive.name}: {threads}; run `make tune` on this machine"
            yield Finding("trouble", "model_store", text)


def verdict(found: list[Finding], production: bool) -> str | None:
    """Why a configuration with these findings is refused; None if it passes."""
    count = Counter(finding.level for finding in found)
    bad = [f"{count[level]} x {level}" for level in ("danger", "trouble") if count[level]]
    if production and count["loosened"]:
        bad.append(f"{count['loosened']} x loosened, which production must not have")
    return ", ".join(bad) or None
