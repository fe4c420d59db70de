"""The archives that a server starts with."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.archives.store import Archive, read_archive_identity
from scripts.building.overlay import Tuned, repack
from scripts.console import UserError
from scripts.serving.archives import admitted, as_snapshot, damage, idle


def test_versions_without_workers_are_not_waited_for() -> None:
    versions = {"1.0": {"minWorkers": 0, "marName": "a.mar"}, "2.0": {"minWorkers": 2, "marName": "b.mar"}}
    assert idle(json.dumps({"models": {"tiny": versions}})) == {("tiny", "1.0")}


def saved(*versions: tuple[str, str]) -> str:
    """A snapshot of a server with these versions of tiny, by their files."""
    return json.dumps({"models": {"tiny": {number: {"marName": name} for number, name in versions}}})


def test_a_server_starts_with_the_settings_of_its_archives(tiny_archive: Callable[..., Path], tmp_path: Path) -> None:
    archives = []
    for version, delay in (("1.0.9", 0), ("1.1.9", 7)):
        made = tiny_archive()
        serving = Tuned(workers=2, threads=1, batch_size=3, max_batch_delay_ms=delay)
        path = repack(Archive(made, read_archive_identity(made)), serving, version, tmp_path)
        archives.append(Archive(path, read_archive_identity(path)))
    snapshot = json.loads(as_snapshot(archives))
    common = {"minWorkers": 2, "maxWorkers": 2, "batchSize": 3, "responseTimeout": 120, "startupTimeout": 300}
    assert (snapshot["modelCount"], snapshot["models"]) == (
        2,
        {
            "tiny": {
                "1.0.9": {
                    **common,
                    "defaultVersion": True,
                    "marName": archives[0].path.name,
                    "maxBatchDelay": 1,
                    "runtimeType": "python",
                },
                "1.1.9": {
                    **common,
                    "defaultVersion": False,
                    "marName": archives[1].path.name,
                    "maxBatchDelay": 7,
                    "runtimeType": "python",
                },
            }
        },
    )


def test_two_archives_of_one_version_are_refused_by_their_names(
    tiny_archive: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(tiny_archive(), tmp_path / "tiny-eager-1.0.mar")
    shutil.copy(tiny_archive(), tmp_path / "tiny-eager-1.0.1.mar")
    last = saved(("1.0", "tiny-eager-1.0.mar"), ("1.0.1", "tiny-eager-1.0.1.mar"))
    why = r"tiny-eager-1\.0\.mar and tiny-eager-1\.0\.1\.mar are both version 1\.0 of tiny, which a server has once"
    with pytest.raises(UserError, match=why):
        admitted(last, None, tmp_path, None)
    assert "tiny-eager-1.0.1.mar is version 1.0; the last server had its version 1.0.1" in " ".join(
        capsys.readouterr().err.split()
    )
    with pytest.raises(UserError, match=why):
        admitted(None, "tiny-eager-1.0.mar tiny-eager-1.0.1.mar", tmp_path, None)


def test_the_damaged_ones_of_several_archives_are_named(tiny_archive: Callable[..., Path], tmp_path: Path) -> None:
    archive = Archive(tiny_archive(), read_archive_identity(tiny_archive()))
    bad = tmp_path / "tiny-eager-1.0.1.mar"
    content = bytearray(archive.path.read_bytes())
    content[len(content) // 2] ^= 1
    bad.write_bytes(content)
    (said,) = damage([archive, Archive(bad, archive.identity)])
    assert said.startswith(f"{bad} is broken (tiny-eager-1.0.1.mar: Bad CRC-32 for file ")
