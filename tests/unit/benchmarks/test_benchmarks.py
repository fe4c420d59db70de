from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from PIL import Image

from benchmarks.__main__ import measure_agreement
from benchmarks.load import Load
from benchmarks.pictures import make_pictures, mixed
from benchmarks.report import markdown, plot, targets
from benchmarks.result import CLIENTS, LIGHT_CLIENTS, Decode, Lone, Open, Result, Round, Start, Variant, new_result
from scripts.archives.store import find_archive


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
    found.agreement = {"lite": {"eager": 1.0, "openvino": 0.995, "openvino int8": 0.98}}
    found.decode = [Decode(ours_ms=15, reference_ms=120, same_top5=4, pictures=4)]
    return found


def test_a_rate_counts_answers_only() -> None:
    assert replace(load(5), failed=7).rate == 5


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians(variant: Variant) -> None:
    assert variant.ratio("stock") == 15  # of 10, 15 and 50; the medians are 40 and 2
    assert variant.rate("served") == 40


def test_every_target_is_held_to_its_bound(result: Result) -> None:
    rows = {row.what.partition(": ")[2]: row for row in targets(result)}
    met = {what: all(map(row.met, row.values)) for what, row in rows.items()}
    assert met["served in int8 / stock"]
    assert not met["served / raw, small JPEGs"]  # 0.8
    assert met["lone request / pipeline"]  # 1.2
    assert not met["p99 / p50 of one client, over the pipeline's"]  # 2
    assert met["`make serve` to first 200 / stock"]
    assert met["memory of a further worker / stock's"]
    assert rows["Pillow and torchvision / ours"].values == {"": 8}
    assert not met["agreement in float32, trained weights"]  # one of two
    assert not met["agreement in int8, trained weights"]


def test_a_light_model_is_held_to_the_pipeline(result: Result, variant: Variant) -> None:
    result.variants = [replace(variant, clients=LIGHT_CLIENTS)]
    what = [row.what for row in targets(result)]
    assert any("served / pipe" in item for item in what)
    assert not any("served / raw" in item for item in what)


def test_the_tables_have_every_figure_and_say_what_is_missed(result: Result) -> None:
    text = markdown(result)
    assert "| vgg16: served in int8 / stock | ≥ 12 | openvino int8 15 | yes |" in text
    assert "| vgg16: lone request / pipeline | ≤ 1.25 | openvino int8 1.2 | yes |" in text
    assert "| vgg16: served / raw, small JPEGs | ≥ 0.92 | openvino int8 **0.8** | **no** |" in text
    assert "agreement in float32, trained weights | ≥ 1 | eager 1 · openvino **0.995** | 1 of 2 |" in text
    assert "| openvino int8 | 40.0 | 2.0 | 50.0 | 50.0 |" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| openvino")}
    assert widths == {line.count("|") for line in text.splitlines() if line.startswith("| runtime")}


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
