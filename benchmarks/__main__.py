"""Measures every archive of a model against TorchServe's own handler, and writes the results: `make bench`."""

import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
from classifier.identity import UNTRAINED
from classifier.recipe import read_recipe

from benchmarks.decoding import measure_decoding
from benchmarks.in_process import InProcess
from benchmarks.load import require_wrk
from benchmarks.measure import (
    Effort,
    further_worker_mb,
    measure_mixed,
    measure_open_loop,
    measure_rounds,
    measure_start,
    serving_ours,
    serving_stock,
)
from benchmarks.pictures import Kind, make_pictures
from benchmarks.plots import plot
from benchmarks.report import markdown, summary
from benchmarks.result import CLIENTS, LIGHT_CLIENTS, Result, Variant, new_result, short_name
from benchmarks.stock import build_stock
from scripts.archives.format import SUFFIX
from scripts.archives.name import ArchiveName
from scripts.archives.store import STORE, Archive, find_archive, newest
from scripts.building.make import RECIPES
from scripts.console import UserError, done, out, step
from scripts.measuring.parity import compare_archives
from scripts.pages import replace_block
from scripts.torchserve.server import Server

_RESULTS: Final = Path("benchmarks/results")
_LIGHT: Final = 30.0  # MB: a model whose weights are smaller keeps the cores busy only with more clients

_FULL: Final = Effort(rounds=3, stock_s=6, seconds=4, lone_s=4)
_QUICK: Final = Effort(rounds=3, stock_s=4, seconds=3, lone_s=1)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    models: list[str]
    only: list[str]
    quick: bool
    store: Path
    recipes: Path
    output: Path


def bench(options: Options) -> Result:
    """Measure all models.

    Raises:
        UserError: an archive is missing, or a program that sends the load.
    """
    result = new_result(options.quick)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        pictures = make_pictures(folder / "pictures")
        for model in options.models:
            _bench_model(options, model, pictures, folder / "stock" / model, result)
        result.decode.append(measure_decoding(options.store, pictures["phone"]))
    return result


def _bench_model(options: Options, model: str, pictures: dict[Kind, list[Path]], folder: Path, result: Result) -> None:
    recipe_file = options.recipes / f"{model}.yaml"
    archives = _archives(options, recipe_file)
    step(f"{model}: building TorchServe's own archive")
    stock = build_stock(recipe_file, folder)
    effort = _QUICK if options.quick else _FULL
    starts = [measure_start(archives[0], stock, step) for _ in range(1 if options.quick else effort.rounds)]
    result.starts[model] = starts
    with serving_stock(stock) as slow:
        for archive in archives:
            _bench_archive(archive, slow, pictures, effort, result)
        if not options.quick:
            result.stock_further_worker_mb[model] = further_worker_mb(slow)
    if not options.quick and archives[0].identity.model.weights != UNTRAINED:
        result.agreement[model] = measure_agreement(model, archives, options.store)


def measure_agreement(model: str, archives: list[Archive], store: Path) -> dict[str, float]:
    """How often each of the archives has the same top-1 as the float32 eager archive."""
    names = {
        item.path.name: short_name(item.identity.model.runtime, item.identity.model.precision) for item in archives
    }
    return {names[item.name]: item.agreement for item in compare_archives(model, store) if item.name in names}


def _bench_archive(
    archive: Archive, slow: Server, pictures: dict[Kind, list[Path]], effort: Effort, result: Result
) -> None:
    identity = archive.identity.model
    clients = LIGHT_CLIENTS if archive.path.stat().st_size < _LIGHT * 1e6 else CLIENTS
    variant = Variant(model=identity.name, runtime=identity.runtime, precision=identity.precision, clients=clients)
    result.variants.append(variant)
    with serving_ours(archive) as ours, InProcess(archive.path) as alone:
        measure_rounds(variant, ours, slow, alone, pictures["small"], effort, step)
        if not result.quick:
            measure_mixed(variant, ours, alone, pictures, effort, step)
            measure_open_loop(variant, ours, pictures["small"], effort, step)
    if not result.quick:
        with serving_ours(archive) as ours:
            variant.further_worker_mb = further_worker_mb(ours)


def _archives(options: Options, recipe_file: Path) -> list[Archive]:
    """The archives of a recipe that are in the store and were asked for.

    Raises:
        UserError: there are none.
    """
    recipe = read_recipe(recipe_file)
    variants = [
        ArchiveName(model=recipe.name, runtime=item.runtime, precision=item.precision) for item in recipe.archives
    ]
    names = [str(name).removesuffix(SUFFIX["zip-store"]) for name in variants]
    wanted = [name for name in names if not options.only or any(name.endswith(f"-{only}") for only in options.only)]
    there = [find_archive(name, options.store) for name in wanted if newest(name, options.store) is not None]
    if not there:
        raise UserError(
            f"no archive of {recipe.name} in {options.store}; build them with `make archives MODEL={recipe.name}`"
        )
    return there


def _write(result: Result, options: Options) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    processor = "".join(letter if letter.isalnum() else "-" for letter in result.machine.processor.lower())
    stem = f"{result.day}-{processor}-{result.machine.cores}-cores" + ("-quick" if result.quick else "")
    (options.output / f"{stem}.json").write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    plots = plot(result, options.output, stem)
    text = markdown(result)
    pictures = "".join(f"\n![{path.stem}]({path.name})\n" for path in plots)
    page = options.output / f"{stem}.md"
    page.write_text(f"{text}{pictures}")
    if not result.quick:
        replace_block(Path("README.md"), "bench", summary(result, str(page)))
    out.print(text, markup=False)
    done(str(page))


def main(
    *,
    models: tuple[str, ...] = ("vgg16", "efficientnet_lite0"),
    runtime: tuple[str, ...] = (),
    quick: bool = False,
    output: Path = _RESULTS,
    store: Path = STORE,
    recipes: Path = RECIPES,
) -> None:
    """Measure speed against TorchServe's own handler: tables and plots.

    Args:
        models: names of the models.
        runtime: runtimes as in the names of archives, `eager` or `openvino-int8`; all without it.
        quick: throughput and latency of the fastest runtime only.
        output: folder to write the results into.
        store: folder of the archives.
        recipes: folder of the recipes.
    """
    require_wrk()
    only = list(runtime) or (["openvino-int8"] if quick else [])
    options = Options(models=list(models), only=only, quick=quick, store=store, recipes=recipes, output=output)
    begin = time.monotonic()
    _write(bench(options), options)
    step(f"took {(time.monotonic() - begin) / 60:.1f} minutes")
