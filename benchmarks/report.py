"""A result as people read it: the README's short table, the results page with every figure."""

import statistics
from collections.abc import Iterator
from typing import Final

import msgspec

from benchmarks.result import LIGHT_CLIENTS, Result, Variant

_FLOAT: Final = "float32"
_PRECISIONS: Final = (_FLOAT, "bfloat16", "int8")
_NOT_MEASURED: Final = "not measured"
_YARDSTICKS: Final = ("vgg16", "efficientnet_lite0")  # the models that the bounds over stock and on agreement are for


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A target, and what was measured of it: one value, or one for each runtime."""

    what: str
    values: dict[str, float]
    bound: float | None  # None: the model at hand is held to none
    at_least: bool = True
    detail: str = ""

    def met(self, name: str) -> bool:
        """Whether that value reaches the target."""
        if self.bound is None:
            return True
        return self.values[name] >= self.bound if self.at_least else self.values[name] <= self.bound

    def as_markdown(self) -> str:
        """A row of the table; what is missed is bold."""
        cells = [
            (f"{name} " if name else "") + (f"{value:.3g}" if self.met(name) else f"**{value:.3g}**")
            for name, value in self.values.items()
        ]
        reached = sum(map(self.met, self.values))
        verdict = "yes" if reached == len(cells) else "**no**" if len(cells) == 1 else f"{reached} of {len(cells)}"
        detail = f" ({self.detail})" if self.detail else ""
        if self.bound is None:
            return f"| {self.what} | | {' · '.join(cells)}{detail} | |"
        bound = f"{'≥' if self.at_least else '≤'} {self.bound:.3g}"
        return f"| {self.what} | {bound} | {' · '.join(cells)}{detail} | {verdict} |"


def targets(result: Result) -> Iterator[Row]:
    """The rows of the table of targets that the result has figures for."""
    for model in result.starts:
        variants = [item for item in result.variants if item.model == model]
        light = variants[0].clients == LIGHT_CLIENTS
        if all(item.has_stock for item in variants):
            yield from _over_stock(model, variants, light=light)
        yield from _over_itself(model, variants, light=light)
        yield from _costs(result, model, variants)
    for model, shares in result.agreement.items():
        yield from _agreement(model, shares)
    for decode in result.decode:
        yield Row(
            what="12-megapixel JPEG to input tensor: speed-up over Pillow and torchvision",
            bound=5,
            values={"": decode.reference_ms / decode.ours_ms},
            detail=f"{decode.ours_ms:.1f} ms instead of {decode.reference_ms:.0f} ms; "
            f"same top-5 on {decode.same_top5} of {decode.pictures}",
        )
        if decode.small_cpu_ms is not None:
            yield Row(
                what="JPEG of 500 x 375 to pixels: milliseconds of CPU time",
                bound=1,
                at_least=False,
                values={"": decode.small_cpu_ms},
                detail=f"{decode.small_reference_cpu_ms:.2g} ms with Pillow and torchvision",
            )


def _over_itself(model: str, variants: list[Variant], *, light: bool) -> Iterator[Row]:
    """A server's ratios to the same classifier without one."""
    if light:
        values = {item.name: item.ratio("pipe") for item in variants}
        yield Row(
            what=f"{model}: served throughput relative to pipe, {variants[0].clients} clients",
            values=values,
            bound=0.95,
        )
    else:
        values = {item.name: item.ratio("raw") for item in variants}
        yield Row(what=f"{model}: served throughput relative to raw, small JPEGs", values=values, bound=0.92)
    values = {item.name: item.lone_ratio() for item in variants}
    what = f"{model}: latency of a lone request, relative to the in-process pipeline"
    yield Row(what=what, values=values, bound=1.25, at_least=False)
    values = {item.name: item.tail_ratio() for item in variants}
    what = f"{model}: tail latency: p99/p50 of a single client, relative to the in-process pipeline's p99/p50"
    yield Row(what=what, values=values, bound=1.15, at_least=False)


def _costs(result: Result, model: str, variants: list[Variant]) -> Iterator[Row]:
    """Time to start, and memory of a further worker."""
    if ratios := [item.ours / item.stock for item in result.starts[model] if item.stock is not None]:
        yield Row(
            what=f"{model}: time from `make serve` to the first 200, relative to stock",
            bound=1 / 3,
            at_least=False,
            values={"": statistics.median(ratios)},
            detail=_start_in_words(result, model),
        )
    of_stock = result.stock_further_worker_mb.get(model)
    measured = [item for item in variants if item.further_worker_mb is not None]
    if of_stock and measured:
        yield Row(
            what=f"{model}: memory of each further worker, relative to stock's",
            at_least=False,
            bound=0.25,
            values={item.name: (item.further_worker_mb or 0) / of_stock for item in measured},
            detail=f"stock: {of_stock:.0f} MB",
        )


def _agreement(model: str, shares: dict[str, float]) -> Iterator[Row]:
    for precision, bound in ((_FLOAT, 1.0), ("bfloat16", 0.995), ("int8", 0.99)):
        of_it = {name: share for name, share in shares.items() if _precision(name) == precision}
        if of_it:
            what = f"{model}: top-1 agreement in {precision}, trained weights"
            yield Row(what=what, values=of_it, bound=_bound(model, bound))


def _bound(model: str, bound: float) -> float | None:
    """The bound of a yardstick; other models have other shares, which their recipes' tolerances bound."""
    return bound if model in _YARDSTICKS else None


def _precision(name: str) -> str:
    return name.partition(" ")[2] or _FLOAT


def _over_stock(model: str, variants: list[Variant], *, light: bool) -> Iterator[Row]:
    if light:
        best = max(variants, key=lambda item: item.ratio("stock"))
        what = f"{model}: served throughput of the best runtime, relative to stock"
        yield Row(what=what, values={best.name: best.ratio("stock")}, bound=_bound(model, 18))
        return
    for precision, bound in ((_FLOAT, 3), ("bfloat16", 6), ("int8", 12)):
        of_it = [item for item in variants if item.precision == precision]
        if of_it:
            best = max(of_it, key=lambda item: item.ratio("stock"))
            what = f"{model}: served throughput in {precision}, relative to stock"
            yield Row(what=what, values={best.name: best.ratio("stock")}, bound=_bound(model, bound))


def _measured_on(result: Result) -> str:
    """The day and the machine, in one sentence."""
    machine = result.machine
    quick = ", with `QUICK=1`" if result.quick else ""
    return (
        f"Measured {result.day} on {machine.cores} cores of {machine.processor} ({', '.join(machine.flags)}), "
        f"{machine.memory_gb:.0f} GiB of memory{quick}."
    )


def summary(result: Result, page: str) -> str:
    """The short table of the README, one row a model; the page with every figure is linked below it."""
    lines = [
        _measured_on(result),
        "",
        f"| model | {' | '.join(_PRECISIONS)} | lone request, p50 | start | memory of a further worker |",
        "|" + "---|" * (4 + len(_PRECISIONS)),
    ]
    lines += [f"| {model} | {' | '.join(_summary_cells(result, model))} |" for model in result.starts]
    lines += [
        "",
        "By precision: served throughput of the best archive relative to TorchServe's own `image_classifier` (stock),",
        "the median of the ratios within a round. Pictures/s of different archives do not compare, because the speed",
        "of a shared machine changes. A lone request comes from a single client; start ends with the first answer.",
        f"[All figures by runtime, against their targets]({page}); [what the terms mean](benchmarks/README.md#terms).",
    ]
    return "\n".join(lines)


def _summary_cells(result: Result, model: str) -> Iterator[str]:
    variants = [item for item in result.variants if item.model == model]
    for precision in _PRECISIONS:
        of_it = [item for item in variants if item.precision == precision]
        yield _best_throughput(of_it) if of_it else _NOT_MEASURED
    fastest = min(variants, key=_lone_p50_ms)
    yield f"{_lone_p50_ms(fastest):.1f} ms ({fastest.name})"
    yield _start_in_words(result, model)
    measured = [item for item in variants if item.further_worker_mb is not None]
    least = min(measured, key=lambda item: item.further_worker_mb or 0, default=None)
    of_stock = result.stock_further_worker_mb.get(model)
    if least is None:
        yield _NOT_MEASURED
    else:
        beside = "" if of_stock is None else f"; stock {of_stock:.0f} MB"
        yield f"{least.further_worker_mb:.0f} MB ({least.name}{beside})"


def _best_throughput(variants: list[Variant]) -> str:
    if not all(item.has_stock for item in variants):
        best = max(variants, key=lambda item: item.rate("served"))
        return f"{best.rate('served'):.1f} pictures/s ({best.runtime})"
    best = max(variants, key=lambda item: item.ratio("stock"))
    return f"{best.ratio('stock'):.3g}x stock ({best.runtime}, {best.rate('served'):.1f} pictures/s)"


def _lone_p50_ms(variant: Variant) -> float:
    return statistics.median(item.served.p50_ms for item in variant.lone)


def _start_in_words(result: Result, model: str) -> str:
    """The medians of the project's server and, where it was measured, of stock."""
    starts = result.starts[model]
    ours, stock = [item.ours for item in starts], [item.stock for item in starts if item.stock is not None]
    return f"{statistics.median(ours):.1f} s" + (f" (stock {statistics.median(stock):.1f} s)" if stock else "")


def markdown(result: Result) -> str:
    """The whole result in Markdown: the page of a run."""
    lines = [
        f"# Benchmark of {result.day}: {result.machine.cores} cores of {result.machine.processor}",
        "",
        _measured_on(result),
        "The terms are defined in [benchmarks/README.md](../README.md#terms).",
        "",
        "## Targets",
        "",
        "Every value stands beside the archive that it was measured with; one that misses its target is bold.",
        "",
        "| target | must reach | measured | reached |",
        "|---|---|---|---|",
    ]
    lines += [row.as_markdown() for row in targets(result)]
    for model, reason in result.without_stock.items():
        lines += ["", f"{model} has no counterpart in TorchServe's own handler: {reason}."]
    for model in result.starts:
        lines += ["", *_table(result, model)]
    return "\n".join(lines) + "\n"


def _table(result: Result, model: str) -> Iterator[str]:
    variants = [item for item in result.variants if item.model == model]
    yield f"## {model}, by runtime"
    yield ""
    yield (
        f"Throughput in pictures/s: served, stock, raw, pipe, and served with mixed sizes. Latency in ms: with "
        f"{variants[0].clients} closed-loop clients, and of a lone client. CPU time in ms for each picture."
    )
    yield ""
    head = [
        "runtime",
        "served",
        "stock",
        "raw",
        "pipe",
        "p50",
        "p90",
        "p99",
        "lone p50",
        "lone p99",
        "CPU",
        "mixed sizes",
    ]
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for item in variants:
        middle = sorted(item.rounds, key=lambda each: each.served.rate)[len(item.rounds) // 2].served
        lone = sorted(item.lone, key=lambda each: each.served.p50_ms)[len(item.lone) // 2].served
        mixed = f"{statistics.median(each.served.rate for each in item.mixed):.1f}" if item.mixed else ""
        stock = f"{item.rate('stock'):.1f}" if item.has_stock else ""
        yield (
            f"| {item.name} | {item.rate('served'):.1f} | {stock} | {item.rate('raw'):.1f} | "
            f"{item.rate('pipe'):.1f} | {middle.p50_ms:.0f} | {middle.p90_ms:.0f} | {middle.p99_ms:.0f} | "
            f"{lone.p50_ms:.1f} | {lone.p99_ms:.1f} | {item.cpu_ms:.1f} | {mixed} |"
        )
