"""A result of the benchmark as plots."""

import statistics
from pathlib import Path

from benchmarks.result import Result, Variant


def plot(result: Result, folder: Path, stem: str) -> list[Path]:
    """Throughput by runtime, and latency against load, as PNG files."""
    paths = []
    for model in result.models:
        variants = [item for item in result.of(model) if item.rounds]
        paths.append(_plot_throughput(model, variants, folder / f"{stem}-{model}-throughput.png"))
        open_loops = [item for item in variants if item.open_loop]
        if open_loops:
            paths.append(_plot_open_loop(model, open_loops, folder / f"{stem}-{model}-latency.png"))
    return paths


def _plot_throughput(model: str, variants: list[Variant], path: Path) -> Path:
    names, served, colours = [item.name for item in variants], [item.rate("served") for item in variants], list[str]()
    first = 1 if all(item.has_stock for item in variants) else 0
    if first:
        names.insert(0, "TorchServe's own")
        served.insert(0, statistics.median(item.rate("stock") for item in variants))
        colours.append("#999999")
    from matplotlib.figure import Figure  # an optional package

    figure = Figure(figsize=(8, 0.45 * len(names) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(names, served, color=colours + ["#2a7ab9"] * len(variants))
    axes.bar_label(bars, fmt="%.0f" if max(served) > 50 else "%.1f", padding=3)
    axes.plot(
        [item.rate("raw") for item in variants],
        range(first, len(names)),
        "k|",
        markersize=14,
        label="forward pass alone",
    )
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(f"{model}: pictures a second over HTTP, {variants[0].clients} clients")
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=120)
    return path


def _plot_open_loop(model: str, variants: list[Variant], path: Path) -> Path:
    from matplotlib.figure import Figure  # an optional package

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for item in variants:
        rates = [each.rate for each in item.open_loop]
        (line,) = axes.plot(rates, [each.load.p99_ms for each in item.open_loop], "o-", label=f"{item.name}, p99")
        axes.plot(
            rates,
            [each.load.p50_ms for each in item.open_loop],
            "o--",
            color=line.get_color(),
            label=f"{item.name}, p50",
        )
    axes.set_yscale("log")
    axes.set_xlabel(f"{model}: pictures a second, arriving at random (Poisson)")
    axes.set_ylabel("latency, ms")
    axes.grid(alpha=0.3, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    return path
