import pytest
from msgspec.structs import replace

from benchmarks.report import markdown
from benchmarks.result import LIGHT_CLIENTS, Memory, Result, Variant
from benchmarks.targets import Row, over_peers, targets
from tests.unit.benchmarks.figures import contender


def test_every_target_is_held_to_its_bound(result: Result) -> None:
    rows = {row.what.partition(": ")[2]: row for row in targets(result)}
    met = {what: all(map(row.met, row.values)) for what, row in rows.items()}
    assert met["served throughput in int8, relative to stock"]
    assert not met["served throughput relative to raw, small JPEGs"]  # 0.8
    assert met["latency of a lone request, relative to the in-process pipeline"]  # 1.04
    assert not met["tail latency: p99/p50 of a single client, relative to the in-process pipeline's p99/p50"]  # 2
    assert met["time from `make serve` to the first 200, relative to stock"]
    assert met["memory of each further worker, relative to stock's"]
    assert met["memory of the whole server with one worker in int8, MB"]
    assert rows["speed-up over Pillow and torchvision"].values == {"": 8}
    assert met["CPU ms"]
    assert not met["top-1 agreement in float32, trained weights"]  # one of two
    assert not met["top-1 agreement in int8, trained weights"]


def test_a_light_model_is_held_to_the_pipeline(result: Result, variant: Variant) -> None:
    result.variants = [replace(variant, clients=LIGHT_CLIENTS)]
    what = [row.what for row in targets(result)]
    assert any("relative to pipe" in item for item in what)
    assert not any("relative to raw" in item for item in what)


def test_bounds_that_were_set_for_the_yardsticks_are_not_those_of_another_model(
    result: Result, variant: Variant
) -> None:
    result.variants = [replace(variant, model="flowers", clients=16)]
    result.stock_memory = {"flowers": Memory(server_mb=3000, further_worker_mb=100)}
    result.contenders = {"flowers": [contender("eager", 10, ours=True), contender("x", 20)]}
    result.agreement = {"flowers": {"openvino int8": 0.9}}
    bounds = {row.what.partition(": ")[2]: row.bound for row in targets(result)}
    assert bounds["served throughput in int8, relative to stock"] is None
    assert bounds["top-1 agreement in int8, trained weights"] is None
    assert bounds["time from `make serve` to the first 200, relative to stock"] is None
    assert bounds["memory of each further worker, relative to stock's"] is None
    assert bounds["memory of the whole server with one worker in int8, MB"] is None
    assert bounds["eager, times better than other servers with it: p99"] is None
    assert bounds["throughput of the best runtime in float32, over the best other server's eager"] is None
    assert bounds["served throughput relative to raw, small JPEGs"] == 0.92
    assert "| flowers: served throughput in int8, relative to stock | | openvino int8 15 | |" in markdown(result)


@pytest.mark.parametrize(
    ("model", "runtime", "precision", "start", "memory"),
    [
        ("vgg16", "eager", "float32", 0.4, 0.5),
        ("vgg16", "torchscript", "float32", 0.4, 0.5),
        ("vgg16", "onnxruntime", "float32", 0.25, 0.25),
        ("vgg16", "openvino", "float32", 0.25, 0.5),
        ("vgg16", "openvino", "int8", 0.25, 0.3),
        ("vgg16", "ncnn", "float32", 0.25, None),
        ("efficientnet_lite0", "aotinductor", "float32", 0.4, 0.5),
        ("efficientnet_lite0", "onnxruntime", "float32", 0.25, 0.25),
        ("efficientnet_lite0", "openvino", "int8", 0.25, 0.25),
    ],
)
def test_start_and_memory_have_the_bound_of_their_runtime(
    result: Result, variant: Variant, model: str, runtime: str, precision: str, start: float, memory: float | None
) -> None:
    result.variants = [replace(variant, model=model, runtime=runtime, precision=precision)]
    result.stock_memory = {model: Memory(server_mb=3000, further_worker_mb=1000)}
    bounds = {row.what.partition(": ")[2]: row.bound for row in targets(result)}
    assert bounds["time from `make serve` to the first 200, relative to stock"] == start
    assert bounds["memory of each further worker, relative to stock's"] == memory


def peers_rows(model: str) -> dict[str, Row]:
    found = [
        contender("eager", 40, 50, 60, ours=True, start_s=4, memory_mb=400),
        contender("openvino", 120, 120, 120, ours=True),
        contender("openvino int8", 300, 300, 300, ours=True),
        contender("mosec", 20, 50, 40, start_s=4, memory_mb=800),
        contender("ray", 10, 10, 60, start_s=8, memory_mb=300),
    ]
    return {row.what.partition(": ")[2]: row for row in over_peers(model, found)}


def test_the_eager_archive_is_compared_with_each_server_within_each_round() -> None:
    rows = peers_rows("vgg16")
    like = "eager, times better than other servers with it"
    assert rows[f"{like}: throughput"].values == {"mosec": 1.5, "ray": 4}  # of 2, 1, 1.5 and of 4, 5, 1
    assert rows[f"{like}: p50"].values == pytest.approx({"mosec": 1.5, "ray": 4})
    assert rows[f"{like}: p99"].values == pytest.approx({"mosec": 1.5, "ray": 4})
    assert rows[f"{like}: memory"].values == {"mosec": 2, "ray": 0.75}
    assert rows[f"{like}: start"].values == {"mosec": 1, "ray": 2}
    assert not rows[f"{like}: memory"].met("ray")
    assert not rows[f"{like}: start"].met("mosec")  # better is asked for, not as good
    assert (
        rows[f"{like}: start"]
        .as_markdown()
        .endswith("| > 1 | **1** · ray 2 | 1 of 2 |".replace("**1**", "mosec **1**"))
    )


def test_the_best_runtime_is_compared_with_the_best_server() -> None:
    in_float = "throughput of the best runtime in float32, over the best other server's eager"
    in_any = "throughput of the best runtime in any precision, over the best other server's eager"
    vgg16, light = peers_rows("vgg16"), peers_rows("efficientnet_lite0")
    assert vgg16[in_float].values == {"openvino over mosec": 3}
    assert vgg16[in_any].values == {"openvino int8 over mosec": 7.5}
    assert (vgg16[in_float].bound, vgg16[in_any].bound) == (2, 5)
    assert (light[in_float].bound, light[in_any].bound) == (2.5, 6)


def test_without_other_servers_there_is_nothing_to_compare_with() -> None:
    assert list(over_peers("vgg16", [])) == []
