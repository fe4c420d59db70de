"""A result as people read it: the README's short table, the results page with every figure."""

import statistics
from collections.abc import Iterator
from typing import Final

from benchmarks.result import FLOAT, Contender, Result, Side, Variant
from benchmarks.targets import over_best, targets

_PRECISIONS: Final = (FLOAT, "bfloat16", "int8")
_NOT_MEASURED: Final = "not measured"
_LIMITS: Final[tuple[Side, ...]] = ("raw", "pipe")


def _measured_on(result: Result) -> str:
    """The day and the machine, in one sentence."""
    machine = result.machine
    quick = ", with `QUICK=1`" if result.quick else ""
    at = f" at commit `{result.commit}`" if result.commit else ""
    return (
        f"Measured {result.day}{at} on {machine.cores} cores of {machine.processor} ({', '.join(machine.flags)}), "
        f"{machine.memory_gb:.0f} GiB of memory{quick}."
    )


def summary(result: Result, page: str) -> str:
    """The short table of the README, one row a model; the page with every figure is linked below it."""
    lines = [
        _measured_on(result),
        "",
        f"| model | {' | '.join(_PRECISIONS)} | over the best other server | lone request, p50 | start | "
        "memory of a further worker |",
        "|" + "---|" * (5 + len(_PRECISIONS)),
    ]
    lines += [f"| {model} | {' | '.join(_summary_cells(result, model))} |" for model in result.models]
    lines += [
        "",
        "By precision: served throughput of the best archive relative to TorchServe's own `image_classifier` (stock),",
        "the median of the ratios within a round. Pictures/s of different archives do not compare, because the speed",
        "of a shared machine changes. The best other server has the eager model. A lone request comes from a single",
        "client; start ends with the first answer.",
        f"[All figures by runtime, against their targets]({page}); [what the terms mean](benchmarks/README.md#terms).",
    ]
    return "\n".join(lines)


def _summary_cells(result: Result, model: str) -> Iterator[str]:
    variants = result.of(model)
    for precision in _PRECISIONS:
        of_it = [item for item in variants if item.precision == precision]
        yield _best_throughput(of_it) if of_it else _NOT_MEASURED
    yield _over_other_servers(result.contenders.get(model, []))
    fastest = min(variants, key=_lone_p50_ms)
    yield f"{_lone_p50_ms(fastest):.1f} ms ({fastest.name})"
    yield f"{variants[0].name} {variants[0].start_in_words()}"
    measured = [(item.memory.further_worker_mb, item.name) for item in variants if item.memory is not None]
    of_stock = result.stock_memory.get(model)
    if not measured:
        yield _NOT_MEASURED
    else:
        least, name = min(measured)
        beside = "" if of_stock is None else f"; stock {of_stock.further_worker_mb:.0f} MB"
        yield f"{least:.0f} MB ({name}{beside})"


def _over_other_servers(contenders: list[Contender]) -> str:
    """Throughput over that of the best other server: of the same backend, and of the fastest archive."""
    ours, peers = [item for item in contenders if item.ours], [item for item in contenders if not item.ours]
    if not ours or not peers:
        return _NOT_MEASURED
    best = max(ours, key=lambda item: item.rate)
    name, like = over_best(ours[0], peers)
    return f"{like:.2g}x {name} ({ours[0].name}), {over_best(best, peers)[1]:.2g}x ({best.name})"


def _best_throughput(variants: list[Variant]) -> str:
    if not all(item.has_stock for item in variants):
        best = max(variants, key=lambda item: item.rate("served"))
        return f"{best.rate('served'):.1f} pictures/s ({best.runtime})"
    best = max(variants, key=lambda item: item.ratio("stock"))
    return f"{best.ratio('stock'):.3g}x stock ({best.runtime}, {best.rate('served'):.1f} pictures/s)"


def _lone_p50_ms(variant: Variant) -> float:
    return statistics.median(item.served.p50_ms for item in variant.lone)


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
    for model, reason in result.without_peers.items():
        lines += ["", f"The other servers cannot serve {model}: {reason}."]
    for model in result.models:
        lines += ["", *_table(result, model)]
        if contenders := result.contenders.get(model):
            lines += ["", *_other_servers(model, contenders, result.of(model))]
    return "\n".join(lines) + "\n"


def _table(result: Result, model: str) -> Iterator[str]:
    variants = result.of(model)
    yield f"## {model}, by runtime"
    yield ""
    yield (
        f"Throughput in pictures/s: served and stock, beside their limits: raw and pipe; then served with mixed sizes. "
        f"Latency in ms: with {variants[0].clients} closed-loop clients, and of a lone client beside the pipeline's. "
        "CPU time in ms for each picture. Memory in MB: of the server with one worker, of a further worker, and of the "
        "weights. Start in seconds."
    )
    yield ""
    head = "runtime | served | stock | raw | pipe | p50 | p90 | p99 | lone p50 | lone p99 | lone pipe p50 | CPU"
    head += " | mixed sizes | server | further worker | weights | start"
    yield f"| {head} |"
    yield "|" + "---|" * (head.count("|") + 1)
    for item in variants:
        yield f"| {' | '.join(_cells(item))} |"


def _cells(item: Variant) -> Iterator[str]:
    middle = sorted(item.rounds, key=lambda each: each.served.rate)[len(item.rounds) // 2].served
    lone = sorted(item.lone, key=lambda each: each.served.p50_ms)[len(item.lone) // 2]
    yield from (item.name, f"{item.rate('served'):.1f}", f"{item.rate('stock'):.1f}" if item.has_stock else "")
    yield from (f"{item.rate('raw'):.1f}", f"{item.rate('pipe'):.1f}")
    yield from (f"{middle.p50_ms:.0f}", f"{middle.p90_ms:.0f}", f"{middle.p99_ms:.0f}")
    yield from (f"{lone.served.p50_ms:.1f}", f"{lone.served.p99_ms:.1f}", f"{lone.pipe.p50_ms:.1f}")
    yield f"{item.cpu_ms:.1f}"
    yield f"{statistics.median(each.served.rate for each in item.mixed):.1f}" if item.mixed else ""
    memory = item.memory
    yield from (f"{memory.server_mb:.0f}", f"{memory.further_worker_mb:.0f}") if memory else ("", "")
    yield f"{item.weights_mb:.0f}"
    yield f"{statistics.median(each.ours for each in item.starts):.1f}" if item.starts else ""


def _other_servers(model: str, contenders: list[Contender], variants: list[Variant]) -> Iterator[str]:
    """The comparison with other servers, below the limits that no server with this backend can pass."""
    eager = contenders[0].name
    yield f"## {model}, beside other servers"
    yield ""
    yield (
        f"This project's server and other servers, all of them with {eager} in float32; and this project's best. "
        "Medians of the rounds, in each of which every server was started, loaded and stopped in turn. The first lines "
        f"are limits: {eager} without any server, where a client's share of the throughput is its shortest p50; memory "
        "is the weights."
    )
    yield ""
    yield "| server | pictures/s | p50, ms | p99, ms | CPU for a picture, ms | memory, MB | start, s |"
    yield "|" + "---|" * 7
    for item in variants:
        if item.name == eager:
            for side in _LIMITS:
                rate = item.rate(side)
                p50 = item.clients / rate * 1e3
                yield f"| limit: {eager}, {side} | {rate:.1f} | {p50:.0f} | | | {item.weights_mb:.0f} | |"
    for contender in contenders:
        name = f"**{contender.name}**, this project" if contender.ours else contender.name
        cells = [f"{contender.rate:.1f}", f"{contender.median(lambda turn: turn.load.p50_ms):.0f}"]
        cells += [f"{contender.median(lambda turn: turn.load.p99_ms):.0f}"]
        cells += [f"{contender.median(lambda turn: turn.cpu_ms):.1f}"]
        cells += ["" if contender.memory_mb is None else f"{contender.memory_mb:.0f}"]
        cells += [f"{contender.median(lambda turn: turn.start_s):.1f}"]
        yield f"| {name} | {' | '.join(cells)} |"
