import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from benchmarks import tune
from benchmarks.tune import Layout, _suggest, layouts, settings
from scripts.archives.store import Archive, read_archive_identity
from scripts.building import release
from scripts.building.options import Options
from scripts.building.overlay import Tuned


@pytest.mark.parametrize(
    ("cores", "expected"),
    [(1, ["1 x 1"]), (2, ["1 x 2", "2 x 1", "2 x 2"]), (6, ["1 x 6", "2 x 3", "3 x 2", "6 x 1", "2 x 6"])],
)
def test_workers_and_threads_fill_the_cores_once_or_twice(cores: int, expected: list[str]) -> None:
    assert [str(layout) for layout in layouts(cores)] == expected
    assert {layout.workers * layout.threads for layout in layouts(cores)} <= {cores, 2 * cores}


def test_a_studys_words_are_read_as_the_settings_that_they_stand_for() -> None:
    """Studies of earlier runs are gone on with, so the words stay."""
    assert all(Layout.parse(str(layout)) == layout for layout in layouts(12))
    found = settings({"layout": "2 x 6", "batch_size": 8, "delay_ms": 1, "archive": "a.mar"})
    assert found == Tuned(workers=2, threads=6, batch_size=8, max_batch_delay_ms=1)


def test_what_a_trial_suggests_is_what_its_study_keeps() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"layout": "2 x 2", "batch_size": 4, "delay_ms": 5})
    trial = study.ask()
    assert _suggest(trial, 2) == settings(trial.params)
    assert settings(trial.params) == Tuned(workers=2, threads=2, batch_size=4, max_batch_delay_ms=5)


@pytest.mark.slow
def test_a_version_that_a_build_takes_meanwhile_is_not_taken_by_tuning(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = release.release(options)
    archive = Archive(path, read_archive_identity(path))
    name = str(tune.variant(archive))
    winner: Any = SimpleNamespace(
        params={"archive": name, "layout": "1 x 1", "batch_size": 3, "delay_ms": 5}, values=(12.0, 80.0)
    )
    waits = threading.Event()
    monkeypatch.setattr("scripts.turns.step", lambda text: waits.set() if "waiting" in text else None)
    tuning = threading.Thread(target=tune._adopt, args=(winner, [archive], tmp_path / "tuned", 400.0))
    with release.alone("tiny", options.store):
        tuning.start()
        while tuning.is_alive() and not waits.wait(0.01):  # until it waits, or has come to its end
            pass
        shutil.copy(path, options.store / "tiny-eager-1.0.1.mar")
    tuning.join()
    versions = sorted(item.name for item in options.store.glob("*.mar"))
    assert versions == ["tiny-eager-1.0.1.mar", "tiny-eager-1.0.2.mar", "tiny-eager-1.0.mar"]
    assert read_archive_identity(options.store / "tiny-eager-1.0.2.mar").model.version == "1.0.2"
