import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks.pareto import best
from scripts.console import UserError


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
