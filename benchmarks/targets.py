"""What must be reached, and what a run of the benchmark reached of it."""

import operator
import statistics
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

import msgspec

from benchmarks.result import FLOAT, LIGHT_CLIENTS, Contender, Decode, Memory, Result, Turn, Variant, precision_of

Sign = Literal["≥", ">", "≤"]

_REACHED: Final = {"≥": operator.ge, ">": operator.gt, "≤": operator.le}
_VGG16: Final = "vgg16"
_LITE0: Final = "efficientnet_lite0"
_YARDSTICKS: Final = (_VGG16, _LITE0)  # the models that bounds are for, but for those on a server over itself
_GRAPH: Final = ("ncnn", "onnxruntime", "openvino")  # runtimes whose workers do without torch


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A target, and what was measured of it: one value, or several by name."""

    what: str
    values: dict[str, float]
    bound: float | None  # None: the model at hand is held to none
    sign: Sign = "≥"
    detail: str = ""

    def met(self, name: str) -> bool:
        """Whether that value reaches the target."""
        return self.bound is None or _REACHED[self.sign](self.values[name], self.bound)

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
        return f"| {self.what} | {self.sign} {self.bound:.3g} | {' · '.join(cells)}{detail} | {verdict} |"


def targets(result: Result) -> Iterator[Row]:
    """The rows of the table of targets that the result has figures for."""
    for model in result.models:
        variants = result.of(model)
        light = variants[0].clients == LIGHT_CLIENTS
        if all(item.has_stock for item in variants):
            yield from _over_stock(model, variants, light=light)
        yield from _over_itself(model, variants, light=light)
        yield from _starts(model, variants)
        yield from _memory(model, variants, result.stock_memory.get(model))
        yield from over_peers(model, result.contenders.get(model, []))
    for model, shares in result.agreement.items():
        yield from _agreement(model, shares)
    for decode in result.decode:
        yield from _decoding(decode)


def _bound(model: str, bound: float) -> float | None:
    """The bound of a yardstick; other models have other ratios, and their recipes' tolerances bound agreement."""
    return bound if model in _YARDSTICKS else None


def _over_stock(model: str, variants: list[Variant], *, light: bool) -> Iterator[Row]:
    if light:
        best = max(variants, key=lambda item: item.ratio("stock"))
        what = f"{model}: served throughput of the best runtime, relative to stock"
        yield Row(what=what, values={best.name: best.ratio("stock")}, bound=_bound(model, 18))
        return
    for precision, bound in ((FLOAT, 5), ("bfloat16", 6), ("int8", 12)):
        of_it = [item for item in variants if item.precision == precision]
        if of_it:
            best = max(of_it, key=lambda item: item.ratio("stock"))
            what = f"{model}: served throughput in {precision}, relative to stock"
            yield Row(what=what, values={best.name: best.ratio("stock")}, bound=_bound(model, bound))


def _over_itself(model: str, variants: list[Variant], *, light: bool) -> Iterator[Row]:
    """A server's ratios to the same classifier without one."""
    if light:
        values = {item.name: item.ratio("pipe") for item in variants}
        what = f"{model}: served throughput relative to pipe, {variants[0].clients} clients"
        yield Row(what=what, values=values, bound=0.95)
    else:
        values = {item.name: item.ratio("raw") for item in variants}
        yield Row(what=f"{model}: served throughput relative to raw, small JPEGs", values=values, bound=0.92)
    values = {item.name: item.lone_ratio() for item in variants}
    what = f"{model}: latency of a lone request, relative to the in-process pipeline"
    yield Row(what=what, values=values, bound=1.05 if model == _VGG16 else 1.25, sign="≤")
    values = {item.name: item.tail_ratio() for item in variants}
    what = f"{model}: tail latency: p99/p50 of a single client, relative to the in-process pipeline's p99/p50"
    yield Row(what=what, values=values, bound=1.15, sign="≤")


def _starts(model: str, variants: list[Variant]) -> Iterator[Row]:
    """Time to start: runtimes that load torch first, then those that do without it."""
    for graph, bound in ((False, 0.4), (True, 0.25)):
        of_it = [item for item in variants if (item.runtime in _GRAPH) == graph]
        values = {item.name: ratio for item in of_it if (ratio := item.start_ratio()) is not None}
        if values:
            what = f"{model}: time from `make serve` to the first 200, relative to stock"
            detail = "; ".join(f"{item.name} {item.start_in_words()}" for item in of_it)
            yield Row(what=what, values=values, bound=_bound(model, bound), sign="≤", detail=detail)


def _memory(model: str, variants: list[Variant], stock: Memory | None) -> Iterator[Row]:
    measured = [(item, item.memory) for item in variants if item.memory is not None]
    if stock:
        by_bound: dict[float | None, dict[str, float]] = {}
        for item, memory in measured:
            ratio = memory.further_worker_mb / stock.further_worker_mb
            by_bound.setdefault(_memory_bound(item), {})[item.name] = ratio
        what = f"{model}: memory of each further worker, relative to stock's"
        detail = f"stock: {stock.further_worker_mb:.0f} MB"
        for bound, values in by_bound.items():
            yield Row(what=what, values=values, bound=bound, sign="≤", detail=detail)
    whole = {item.name: memory.server_mb for item, memory in measured if item.precision == "int8"}
    if whole:
        what = f"{model}: memory of the whole server with one worker in int8, MB"
        yield Row(what=what, values=whole, bound=400 if model == _LITE0 else None, sign="≤")


def _memory_bound(variant: Variant) -> float | None:
    if variant.model not in _YARDSTICKS:
        return None
    if (variant.model, variant.runtime) == (_VGG16, "ncnn"):  # its transformed weights are larger than the weights
        return None
    if (variant.model, variant.name) == (_VGG16, "openvino int8"):
        return 0.3
    return 0.25 if variant.runtime == "onnxruntime" or (variant.model, variant.runtime) == (_LITE0, "openvino") else 0.5


def over_peers(model: str, contenders: list[Contender]) -> Iterator[Row]:
    """This project's server over the other servers: the first contender like for like, then its best."""
    ours, peers = [item for item in contenders if item.ours], [item for item in contenders if not item.ours]
    if not ours or not peers:
        return
    for figure, advantage in _ADVANTAGES.items():
        values = {peer.name: value for peer in peers if (value := advantage(ours[0], peer)) is not None}
        if values:
            what = f"{model}: {ours[0].name}, times better than other servers with it: {figure}"
            yield Row(what=what, values=values, bound=_bound(model, 1), sign=">")
    for of_it, kind, bounds in (
        ([item for item in ours if item.precision == FLOAT], "in float32", {_VGG16: 2.0, _LITE0: 2.5}),
        (ours, "in any precision", {_VGG16: 5.0, _LITE0: 6.0}),
    ):
        best = max(of_it, key=lambda item: item.rate)
        name, value = over_best(best, peers)
        what = f"{model}: throughput of the best runtime {kind}, over the best other server's eager"
        yield Row(what=what, values={f"{best.name} over {name}": value}, bound=bounds.get(model))


def over_best(ours: Contender, peers: Iterable[Contender]) -> tuple[str, float]:
    """The other server that comes nearest to this project's throughput, and how many times higher that is."""
    return min(((peer.name, _throughput(ours, peer)) for peer in peers), key=lambda found: found[1])


def _throughput(ours: Contender, peer: Contender) -> float:
    return statistics.median(own.load.rate / other.load.rate for own, other in zip(ours.turns, peer.turns, strict=True))


def _shorter(of: Callable[[Turn], float]) -> Callable[[Contender, Contender], float]:
    """How many times shorter a time of this project's is: the median of the rounds' ratios."""
    return lambda ours, peer: statistics.median(
        of(other) / of(own) for own, other in zip(ours.turns, peer.turns, strict=True)
    )


def _smaller_memory(ours: Contender, peer: Contender) -> float | None:
    return peer.memory_mb / ours.memory_mb if ours.memory_mb and peer.memory_mb else None


_ADVANTAGES: Final[dict[str, Callable[[Contender, Contender], float | None]]] = {
    "throughput": _throughput,
    "p50": _shorter(lambda turn: turn.load.p50_ms),
    "p99": _shorter(lambda turn: turn.load.p99_ms),
    "memory": _smaller_memory,
    "start": _shorter(lambda turn: turn.start_s),
}


def _agreement(model: str, shares: dict[str, float]) -> Iterator[Row]:
    for precision, bound in ((FLOAT, 1.0), ("bfloat16", 0.995), ("int8", 0.99)):
        of_it = {name: share for name, share in shares.items() if precision_of(name) == precision}
        if of_it:
            what = f"{model}: top-1 agreement in {precision}, trained weights"
            yield Row(what=what, values=of_it, bound=_bound(model, bound))


def _decoding(decode: Decode) -> Iterator[Row]:
    yield Row(
        what="500 x 375 JPEG, decoded and resized: CPU ms",
        bound=1.0,
        values={"": decode.small_cpu_ms},
        sign="≤",
        detail=f"{decode.small_reference_cpu_ms:.2g} ms with Pillow and torchvision",
    )
    yield Row(
        what="12-megapixel JPEG to input tensor: speed-up over Pillow and torchvision",
        bound=8,
        values={"": decode.reference_ms / decode.ours_ms},
        detail=f"{decode.ours_ms:.1f} ms instead of {decode.reference_ms:.0f} ms; "
        f"same top-5 on {decode.same_top5} of {decode.pictures}",
    )
