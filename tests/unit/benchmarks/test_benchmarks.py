from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from PIL import Image

from benchmarks.__main__ import Options, _archives, measure_agreement
from benchmarks.load import Load
from benchmarks.pictures import Kind, allowed, make_pictures, mixed
from benchmarks.plots import plot
from benchmarks.report import markdown, summary, targets
from benchmarks.result import CLIENTS, LIGHT_CLIENTS, Decode, Lone, Open, Result, Round, Start, Variant, new_result
from scripts.archives.store import find_archive
from scripts.console import UserError


def load(rate: float, p50_ms: float = 10, p99_ms: float = 20) -> Load:
    return Load(seconds=2, answers=round(2 * rate), failed=0, p50_ms=p50_ms, p90_ms=15, p99_ms=p99_ms)


def one_round(stock: float, served: float, raw: float, pipe: float) -> Round:
    return Round(stock=load(stock), served=load(served), raw=load(raw), pipe=load(pipe))


@pytest.fixture
def variant() -> Variant:
    return Variant(
        model="vgg16",
        runtime="openvino",
        precision="int8",
        clients=CLIENTS,
        rounds=[one_round(4, 40, 50, 50), one_round(2, 30, 30, 40), one_round(1, 50, 100, 60)],
        lone=[Lone(served=load(9, 12, 24), pipe=load(9, 10, 10))],
        open_loop=[Open(rate=10, load=load(10)), Open(rate=20, load=load(20, 30, 90))],
        cpu_ms=40,
        further_worker_mb=100,
    )


@pytest.fixture
def result(variant: Variant) -> Result:
    found = new_result(quick=False)
    found.variants = [variant]
    found.starts = {"vgg16": [Start(ours=5, stock=20)]}
    found.stock_further_worker_mb = {"vgg16": 1000}
    found.agreement = {"efficientnet_lite0": {"eager": 1.0, "openvino": 0.995, "openvino int8": 0.98}}
    found.decode = [
        Decode(ours_ms=15, reference_ms=120, same_top5=4, pictures=4, small_cpu_ms=0.9, small_reference_cpu_ms=2)
    ]
    return found


def test_a_rate_counts_answers_only() -> None:
    assert replace(load(5), failed=7).rate == 5


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians(variant: Variant) -> None:
    assert variant.ratio("stock") == 15  # of 10, 15 and 50; the medians are 40 and 2
    assert variant.rate("served") == 40


def test_every_target_is_held_to_its_bound(result: Result) -> None:
    rows = {row.what.partition(": ")[2]: row for row in targets(result)}
    met = {what: all(map(row.met, row.values)) for what, row in rows.items()}
    assert met["served throughput in int8, relative to stock"]
    assert not met["served throughput relative to raw, small JPEGs"]  # 0.8
    assert met["latency of a lone request, relative to the in-process pipeline"]  # 1.2
    assert not met["tail latency: p99/p50 of a single client, relative to the in-process pipeline's p99/p50"]  # 2
    assert met["time from `make serve` to the first 200, relative to stock"]
    assert met["memory of each further worker, relative to stock's"]
    assert rows["speed-up over Pillow and torchvision"].values == {"": 8}
    assert met["milliseconds of CPU time"]  # 0.9
    assert not met["top-1 agreement in float32, trained weights"]  # one of two
    assert not met["top-1 agreement in int8, trained weights"]


def test_a_light_model_is_held_to_the_pipeline(result: Result, variant: Variant) -> None:
    result.variants = [replace(variant, clients=LIGHT_CLIENTS)]
    what = [row.what for row in targets(result)]
    assert any("relative to pipe" in item for item in what)
    assert not any("relative to raw" in item for item in what)


def test_the_tables_have_every_figure_and_say_what_is_missed(result: Result) -> None:
    text = markdown(result)
    assert "| vgg16: served throughput in int8, relative to stock | ≥ 12 | openvino int8 15 | yes |" in text
    lone = "| vgg16: latency of a lone request, relative to the in-process pipeline"
    assert f"{lone} | ≤ 1.25 | openvino int8 1.2 | yes |" in text
    raw = "| vgg16: served throughput relative to raw, small JPEGs"
    assert f"{raw} | ≥ 0.92 | openvino int8 **0.8** | **no** |" in text
    assert "agreement in float32, trained weights | ≥ 1 | eager 1 · openvino **0.995** | 1 of 2 |" in text
    assert "| openvino int8 | 40.0 | 2.0 | 50.0 | 50.0 |" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| openvino")}
    assert widths == {line.count("|") for line in text.splitlines() if line.startswith("| runtime")}


def test_the_readmes_table_is_short_and_has_the_best_of_each_precision(result: Result, variant: Variant) -> None:
    slower = replace(variant, runtime="eager", rounds=[one_round(4, 8, 50, 50)], further_worker_mb=50)
    result.variants = [slower, variant]
    text = summary(result, "benchmarks/results/day.md")
    assert len(text.splitlines()) <= 12
    assert "](benchmarks/results/day.md)" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| vgg16 ")]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("vgg16", "not measured", "not measured", "15x stock (openvino, 40.0 pictures/s)"),
        *("12.0 ms (eager int8)", "5.0 s (stock 20.0 s)", "50 MB (eager int8; stock 1000 MB)"),
    ]
    (head,) = [line for line in text.splitlines() if line.startswith("| model ")]
    assert head.count("|") == row.count("|")


def test_what_a_quick_run_leaves_out_is_a_dash_in_the_readmes_table(result: Result, variant: Variant) -> None:
    result.variants = [replace(variant, further_worker_mb=None)]
    result.stock_further_worker_mb = {}
    (row,) = [line for line in summary(result, "day.md").splitlines() if line.startswith("| vgg16 ")]
    assert row.endswith("| 5.0 s (stock 20.0 s) | not measured |")


@pytest.mark.slow
def test_agreement_is_with_the_eager_archive_and_of_those_that_are_measured(tiny_archive: Callable[..., Path]) -> None:
    store = tiny_archive().parent
    tiny_archive("openvino")
    wanted = find_archive("tiny-openvino", store)
    assert measure_agreement("tiny", [wanted], store) == {"openvino": 1.0}


def test_plots_are_pictures(result: Result, tmp_path: Path) -> None:
    paths = plot(result, tmp_path, "day")
    assert len(paths) == 2
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) > 100


def test_a_model_without_a_counterpart_has_its_own_figures_and_the_reason(
    result: Result, variant: Variant, tmp_path: Path
) -> None:
    own = [replace(item, stock=None) for item in variant.rounds]
    result.variants = [replace(variant, model="few", rounds=own)]
    result.starts = {"few": [Start(ours=5, stock=None)]}
    result.stock_further_worker_mb = {}
    result.without_stock = {"few": "it answers with five classes, and this model has 3"}
    text = markdown(result)
    assert "relative to stock" not in text
    assert "few has no counterpart in TorchServe's own handler: it answers with five classes" in text
    assert "| openvino int8 | 40.0 |  | 50.0 | 50.0 |" in text
    (row,) = [line for line in summary(result, "day.md").splitlines() if line.startswith("| few ")]
    assert "40.0 pictures/s (openvino)" in row
    assert "| 5.0 s |" in row
    assert "100 MB (openvino int8)" in row
    assert len(plot(result, tmp_path, "day")) == 2


def test_bounds_that_were_set_for_the_yardsticks_are_not_those_of_another_model(
    result: Result, variant: Variant
) -> None:
    result.variants = [replace(variant, model="flowers")]
    result.starts = {"flowers": [Start(ours=5, stock=20)]}
    result.agreement = {"flowers": {"openvino int8": 0.9}}
    bounds = {row.what.partition(": ")[2]: row.bound for row in targets(result)}
    assert bounds["served throughput in int8, relative to stock"] is None
    assert bounds["top-1 agreement in int8, trained weights"] is None
    assert bounds["served throughput relative to raw, small JPEGs"] == 0.92
    assert "| flowers: served throughput in int8, relative to stock | | openvino int8 15 | |" in markdown(result)


def test_what_a_recipe_does_not_allow_is_not_sent() -> None:
    every: dict[Kind, list[Path]] = {"small": [Path("a")], "png": [Path("b")], "medium": [], "phone": [Path("c")]}
    assert allowed(every, 64_000_000) == every
    assert allowed(every, 500 * 375).keys() == {"small", "png"}
    with pytest.raises(UserError, match="allows 1000 pixels, and the smallest pictures here are 500 x 375"):
        allowed(every, 1000)


def test_the_pictures_may_be_the_users_own(flowers: Path, tmp_path: Path) -> None:
    made = make_pictures(tmp_path / "made", sorted((flowers / "rose").iterdir()))
    assert {kind: len(paths) for kind, paths in made.items()} == {"small": 2, "medium": 2, "phone": 2, "png": 2}
    with Image.open(made["png"][0]) as image:
        assert image.getpixel((0, 0)) == (220, 40, 30)
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match=r"notes\.txt"):
        make_pictures(tmp_path / "none", [tmp_path / "notes.txt"])


def test_the_runtimes_to_measure_are_those_of_the_store(few_archive: Callable[..., Path], tmp_path: Path) -> None:
    few_archive("torchscript")
    store = few_archive("eager").parent
    options = Options(models=["few"], only=[], quick=False, store=store, output=tmp_path)
    assert [item.identity.model.runtime for item in _archives(options, "few")] == ["eager", "torchscript"]
    assert [item.identity.model.runtime for item in _archives(replace(options, quick=True), "few")] == ["eager"]
    with pytest.raises(UserError, match="for openvino-int8; there: RUNTIME='eager torchscript'"):
        _archives(replace(options, only=["openvino-int8"]), "few")


@pytest.mark.slow
def test_the_request_set_has_the_sizes_it_says(tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path)
    sizes = {}
    for kind, paths in pictures.items():
        for path in paths:
            with Image.open(path) as image:
                sizes[kind] = (image.size, image.format)
    assert sizes == {
        "small": ((500, 375), "JPEG"),
        "medium": ((1000, 750), "JPEG"),
        "phone": ((4032, 3024), "JPEG"),
        "png": ((500, 375), "PNG"),
    }
    assert len(mixed(pictures)) == 16
