"""Chooses among the trials of `make tune`, and shows them: no setting on the Pareto front is beaten in both figures."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Column, Table

from benchmarks.result import CLIENTS
from scripts.console import UserError

if TYPE_CHECKING:
    import optuna  # an optional package, imported where it is used


def best(trials: "list[optuna.trial.FrozenTrial]", p99_ms: float) -> "optuna.trial.FrozenTrial":
    """The trial with the most pictures a second whose p99 is within the bound.

    Raises:
        UserError: there is none.
    """
    within = [trial for trial in trials if trial.values and trial.values[1] <= p99_ms]
    if not within:
        fastest = min((trial.values[1] for trial in trials if trial.values), default=float("nan"))
        raise UserError(
            f"no setting keeps p99 below {p99_ms:.0f} ms with {CLIENTS} clients; the lowest was {fastest:.0f} ms"
        )
    return max(within, key=lambda trial: trial.values[0])


def pareto_table(study: "optuna.Study", p99_ms: float) -> Table:
    """The settings that no other beats in both throughput and latency."""
    table = Table(
        Column("archive", no_wrap=True), "workers x threads", "batch", "delay, ms", "pictures/s", "p99, ms", ""
    )
    for trial in sorted(study.best_trials, key=lambda each: -each.values[0]):
        rate, p99 = trial.values
        setting = trial.params
        table.add_row(
            str(setting["archive"]), str(setting["layout"]), str(setting["batch_size"]), str(setting["delay_ms"]),
            f"{rate:.1f}", f"{p99:.0f}", "within the bound" if p99 <= p99_ms else "",
        )  # fmt: skip
    return table


def plot(study: "optuna.Study", p99_ms: float, path: Path) -> None:
    """All trials, throughput against p99."""
    from matplotlib.figure import Figure

    trials = [trial for trial in study.trials if trial.values]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for name in sorted({trial.params["archive"] for trial in trials}):
        own = [trial.values for trial in trials if trial.params["archive"] == name]
        axes.plot([rate for rate, _ in own], [p99 for _, p99 in own], "o", label=name.partition(".")[0])
    front = sorted(trial.values for trial in study.best_trials)
    axes.plot([rate for rate, _ in front], [p99 for _, p99 in front], "k-", linewidth=1, label="Pareto front")
    axes.axhline(p99_ms, color="grey", linestyle="--", linewidth=1)
    axes.annotate("the bound", (0, p99_ms), xycoords=("axes fraction", "data"), va="bottom")
    axes.set_yscale("log")
    axes.set_xlabel(f"pictures a second with {CLIENTS} clients")
    axes.set_ylabel("p99, ms")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
