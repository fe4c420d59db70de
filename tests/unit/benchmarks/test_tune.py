import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks.tune import Layout, _suggest, best, layouts, settings
from scripts.building.overlay import Tuned
from scripts.console import UserError


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


def finished(rate: float, p99_ms: float) -> FrozenTrial:
    choice = CategoricalDistribution(("a.mar",))
    return create_trial(params={"archive": "a.mar"}, distributions={"archive": choice}, values=[rate, p99_ms])


def test_the_fastest_within_the_bound_wins() -> None:
    trials = [finished(90, 410), finished(50, 399), finished(60, 400), finished(10, 20)]
    assert best(trials, 400).values == [60, 400]


def test_a_trial_that_failed_does_not_count() -> None:
    failed = create_trial(state=TrialState.FAIL)
    assert best([failed, finished(5, 5)], 10).values == [5, 5]


def test_where_none_is_within_the_bound_the_lowest_is_named() -> None:
    with pytest.raises(UserError, match=r"below 100 ms.*was 150"):
        best([finished(5, 200), finished(4, 150)], 100)


def test_the_study_keeps_what_no_other_setting_beats() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials([finished(50, 300), finished(40, 400), finished(20, 100)])
    assert sorted(trial.values for trial in study.best_trials) == [[20, 100], [50, 300]]
