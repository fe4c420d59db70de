"""A result that no machine has measured."""

from benchmarks.load import Load
from benchmarks.result import CLIENTS, Contender, Decode, Lone, Memory, Open, Result, Round, Start, Turn, Variant
from benchmarks.result import new_result as _new_result


def load(rate: float, p50_ms: float = 10, p99_ms: float = 20) -> Load:
    return Load(seconds=2, answers=round(2 * rate), failed=0, p50_ms=p50_ms, p90_ms=15, p99_ms=p99_ms)


def one_round(stock: float, served: float, raw: float, pipe: float) -> Round:
    return Round(stock=load(stock), served=load(served), raw=load(raw), pipe=load(pipe))


def a_variant() -> Variant:
    return Variant(
        model="vgg16",
        runtime="openvino",
        precision="int8",
        clients=CLIENTS,
        rounds=[one_round(4, 40, 50, 50), one_round(2, 30, 30, 40), one_round(1, 50, 100, 60)],
        lone=[Lone(served=load(9, 10.4, 20.8), pipe=load(9, 10, 10))],
        open_loop=[Open(rate=10, load=load(10)), Open(rate=20, load=load(20, 30, 90))],
        starts=[Start(ours=5, stock=20)],
        cpu_ms=40,
        weights_mb=132,
        memory=Memory(server_mb=350, further_worker_mb=100),
    )


def a_result(variant: Variant) -> Result:
    found = _new_result(quick=False)
    found.variants = [variant]
    found.stock_memory = {"vgg16": Memory(server_mb=3000, further_worker_mb=1000)}
    found.agreement = {"efficientnet_lite0": {"eager": 1.0, "openvino": 0.995, "openvino int8": 0.98}}
    found.decode = [
        Decode(small_cpu_ms=0.8, small_reference_cpu_ms=2, ours_ms=15, reference_ms=120, same_top5=4, pictures=4)
    ]
    return found


def contender(name: str, *rates: float, ours: bool = False, start_s: float = 5, memory_mb: float = 500) -> Contender:
    """A server with these rates in its rounds; the faster, the shorter its latencies."""
    turns = [
        Turn(start_s=start_s, load=load(rate, p50_ms=1000 / rate, p99_ms=2000 / rate), cpu_ms=30) for rate in rates
    ]
    return Contender(name=name, ours=ours, turns=turns, memory_mb=memory_mb)
