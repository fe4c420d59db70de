from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from PIL import Image

from benchmarks import __main__ as bench
from benchmarks.__main__ import Options, _archives, measure_agreement
from benchmarks.measure import Effort
from benchmarks.pictures import Kind, allowed, make_pictures, mixed
from benchmarks.plots import plot
from benchmarks.report import markdown, summary
from benchmarks.result import CLIENTS, Memory, Result, Start, Variant, this_commit
from scripts.archives.store import find_archive
from scripts.console import UserError
from tests.unit.benchmarks.figures import contender, load, one_round


def test_a_rate_counts_answers_only() -> None:
    assert replace(load(5), failed=7).rate == 5


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians(variant: Variant) -> None:
    assert variant.ratio("stock") == 15  # of 10, 15 and 50; the medians are 40 and 2
    assert variant.rate("served") == 40


def test_the_tables_have_every_figure_and_say_what_is_missed(result: Result) -> None:
    text = markdown(result)
    assert "| vgg16: served throughput in int8, relative to stock | ≥ 12 | openvino int8 15 | yes |" in text
    lone = "| vgg16: latency of a lone request, relative to the in-process pipeline"
    assert f"{lone} | ≤ 1.05 | openvino int8 1.04 | yes |" in text
    raw = "| vgg16: served throughput relative to raw, small JPEGs"
    assert f"{raw} | ≥ 0.92 | openvino int8 **0.8** | **no** |" in text
    assert "agreement in float32, trained weights | ≥ 1 | eager 1 · openvino **0.995** | 1 of 2 |" in text
    assert "| openvino int8 | 40.0 | 2.0 | 50.0 | 50.0 |" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| openvino")}
    assert widths == {line.count("|") for line in text.splitlines() if line.startswith("| runtime")}


def test_other_servers_stand_below_the_limits_of_the_same_backend(result: Result, variant: Variant) -> None:
    eager = replace(variant, runtime="eager", precision="float32")
    result.variants = [eager, variant]
    result.contenders = {
        "vgg16": [
            contender("eager", 40, 40, ours=True),
            contender("openvino int8", 80, 90, ours=True),
            contender("x", 20, 20),
        ]
    }
    table = markdown(result).partition("## vgg16, beside other servers")[2]
    assert [line for line in table.splitlines() if line.startswith("|")] == [
        "| server | pictures/s | p50, ms | p99, ms | CPU for a picture, ms | memory, MB | start, s |",
        "|---|---|---|---|---|---|---|",
        "| limit: eager, raw | 50.0 | 320 | | | 132 | |",
        "| limit: eager, pipe | 50.0 | 320 | | | 132 | |",
        "| **eager**, this project | 40.0 | 25 | 50 | 30.0 | 500 | 5.0 |",
        "| **openvino int8**, this project | 85.0 | 12 | 24 | 30.0 | 500 | 5.0 |",
        "| x | 20.0 | 50 | 100 | 30.0 | 500 | 5.0 |",
    ]


def test_the_readmes_table_has_the_best_other_server(result: Result) -> None:
    found = [contender("eager", 40, 40, ours=True), contender("openvino int8", 90, 90, ours=True)]
    result.contenders = {"vgg16": [*found, contender("x", 20, 20), contender("y", 30, 36)]}
    (row,) = [line for line in summary(result, "day.md").splitlines() if line.startswith("| vgg16 ")]
    assert "| 1.2x y (eager), 2.8x (openvino int8) |" in row


def test_a_model_that_other_servers_cannot_serve_has_the_reason(result: Result) -> None:
    result.without_peers = {"vgg16": "they answer with a softmax, and its recipe says sigmoid"}
    assert "The other servers cannot serve vgg16: they answer with a softmax" in markdown(result)


def test_a_result_has_the_commit_of_the_code_that_was_measured(result: Result) -> None:
    assert result.commit == this_commit()
    assert f"at commit `{'0' * 12}+` on" in markdown(replace(result, commit="0" * 12 + "+"))
    assert "commit" not in markdown(replace(result, commit=""))


def test_the_readmes_table_is_short_and_has_the_best_of_each_precision(result: Result, variant: Variant) -> None:
    small = Memory(server_mb=250, further_worker_mb=50)
    slower = replace(variant, runtime="eager", rounds=[one_round(4, 8, 50, 50)], memory=small)
    result.variants = [slower, variant]
    text = summary(result, "benchmarks/results/day.md")
    assert len(text.splitlines()) <= 12
    assert "](benchmarks/results/day.md)" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| vgg16 ")]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("vgg16", "not measured", "not measured", "15x stock (openvino, 40.0 pictures/s)", "not measured"),
        *("10.4 ms (eager int8)", "eager int8 5.0 s (stock 20.0 s)", "50 MB (eager int8; stock 1000 MB)"),
    ]
    (head,) = [line for line in text.splitlines() if line.startswith("| model ")]
    assert head.count("|") == row.count("|")


def test_what_a_quick_run_leaves_out_is_a_dash_in_the_readmes_table(result: Result, variant: Variant) -> None:
    result.variants = [replace(variant, memory=None)]
    result.stock_memory = {}
    (row,) = [line for line in summary(result, "day.md").splitlines() if line.startswith("| vgg16 ")]
    assert row.endswith("| openvino int8 5.0 s (stock 20.0 s) | not measured |")


@pytest.mark.slow
def test_the_eager_archive_and_the_fastest_ones_are_compared_with_other_servers(
    tiny_archive: Callable[..., Path], result: Result, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tiny_archive().parent
    rates = {"eager": 10, "torchscript": 20}
    measured = []
    for runtime, rate in rates.items():
        tiny_archive(runtime)
        rounds = [one_round(1, rate, 50, 50)]
        own = replace(variant, model="tiny", runtime=runtime, precision="float32", rounds=rounds)
        measured.append((own, find_archive(f"tiny-{runtime}", store)))
    options = Options(
        models=["tiny"], only=[], quick=True, peers=["mosec", "ray"], store=store, output=store, golden=None
    )
    clients = []
    monkeypatch.setattr(bench, "measure_turns", lambda sides, bodies, number, *_, **__: clients.append(number))
    effort = Effort(warm_up_s=1, rounds=1, stock_s=1, seconds=1, lone_s=1)
    bench._compare(options, measured[0][1], measured, [], effort, result)
    assert [item.name for item in result.contenders["tiny"]] == ["eager", "torchscript", "mosec", "ray"]
    assert clients == [CLIENTS]
    bench._compare(options, measured[1][1], measured, [], effort, result)
    assert "no such archive of it" in result.without_peers["tiny"]


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
    result.variants = [replace(variant, model="few", rounds=own, starts=[Start(ours=5, stock=None)])]
    result.stock_memory = {}
    result.without_stock = {"few": "it answers with five classes, and this model has 3"}
    text = markdown(result)
    assert "relative to stock" not in text
    assert "few has no counterpart in TorchServe's own handler: it answers with five classes" in text
    assert "| openvino int8 | 40.0 |  | 50.0 | 50.0 |" in text
    (row,) = [line for line in summary(result, "day.md").splitlines() if line.startswith("| few ")]
    assert "40.0 pictures/s (openvino)" in row
    assert "| openvino int8 5.0 s |" in row
    assert "100 MB (openvino int8)" in row
    assert len(plot(result, tmp_path, "day")) == 2


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
