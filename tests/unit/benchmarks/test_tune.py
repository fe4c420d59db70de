import optuna
import pytest

from benchmarks.tune import Layout, _suggest, layouts, settings
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
