"""Measures every archive of a model against TorchServe's own handler, and writes the results: `make bench`."""

import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import msgspec
from classifier.identity import UNTRAINED

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
from benchmarks.pictures import Kind, allowed, make_pictures
from benchmarks.plots import plot
from benchmarks.report import markdown, summary
from benchmarks.result import CLIENTS, LIGHT_CLIENTS, Result, Variant, new_result, short_name
from benchmarks.stock import NoCounterpartError, build_stock
from scripts.archives.store import STORE, Archive, archives_of, model_in, read_archive_recipe
from scripts.building.golden import pictures_in
from scripts.console import UserError, done, out, step
from scripts.measuring.parity import compare_archives
from scripts.pages import replace_block
from scripts.torchserve.server import Server

_RESULTS: Final = Path("benchmarks/results")
_LIGHT: Final = 30.0  # MB: a model whose weights are smaller keeps the cores busy only with more clients

_FASTEST: Final = "openvino-int8"  # nearly always, where a model has it

_FULL: Final = Effort(rounds=3, stock_s=6, seconds=4, lone_s=4)
_QUICK: Final = Effort(rounds=3, stock_s=4, seconds=3, lone_s=1)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    models: list[str]
    only: list[str]
    quick: bool
    store: Path
    output: Path
    golden: Path | None = None  # folder of the pictures to send; scikit-image's without it


def bench(options: Options) -> Result:
    """Measure all models.

    Raises:
        UserError: an archive is missing, or a program that sends the load.
    """
    result = new_result(options.quick)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        sources = pictures_in(options.golden, "GOLDEN") if options.golden else []
        pictures = make_pictures(folder / "pictures", sources)
        for model in options.models:
            _bench_model(options, model, pictures, folder / "stock" / model, result)
    return result


def _bench_model(options: Options, model: str, every: dict[Kind, list[Path]], folder: Path, result: Result) -> None:
    reference, *_ = archives_of(model, options.store)
    archives = _archives(options, model)
    pictures = allowed(every, read_archive_recipe(reference.path).input.max_pixels)
    stock = _stock(reference, folder, result)
    effort = _QUICK if options.quick else _FULL
    picture, repeated = pictures["small"][0], 1 if options.quick else effort.rounds
    result.starts[model] = [measure_start(archives[0], stock, picture, step) for _ in range(repeated)]
    with serving_stock(stock) if stock else nullcontext() as slow:
        for archive in archives:
            _bench_archive(archive, slow, pictures, effort, result)
        if slow and not options.quick:
            result.stock_further_worker_mb[model] = further_worker_mb(slow, picture)
    if "phone" in pictures and not result.decode:
        result.decode.append(measure_decoding(reference, pictures["phone"], pictures["small"]))
    if not options.quick and archives[0].identity.model.weights != UNTRAINED:
        result.agreement[model] = measure_agreement(model, archives, options.store)


def _stock(reference: Archive, folder: Path, result: Result) -> Archive | None:
    """TorchServe's own archive of the model; None where its handler cannot serve it, and the result says why."""
    model = reference.identity.model.name
    step(f"{model}: building TorchServe's own archive")
    folder.mkdir(parents=True)
    try:
        return build_stock(reference, folder)
    except NoCounterpartError as error:
        result.without_stock[model] = str(error)
        step(f"{model}: there is nothing to compare with in TorchServe's own handler: {error}")
        return None


def measure_agreement(model: str, archives: list[Archive], store: Path) -> dict[str, float]:
    """How often each of the archives has the same top-1 as the float32 eager archive."""
    names = {
        item.path.name: short_name(item.identity.model.runtime, item.identity.model.precision) for item in archives
    }
    return {names[item.name]: item.agreement for item in compare_archives(model, store) if item.name in names}


def _bench_archive(
    archive: Archive, slow: Server | None, pictures: dict[Kind, list[Path]], effort: Effort, result: Result
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
            variant.further_worker_mb = further_worker_mb(ours, pictures["small"][0])


def _archives(options: Options, model: str) -> list[Archive]:
    """The archives of a model that are in the store and were asked for.

    Raises:
        UserError: there are none.
    """
    there = archives_of(model, options.store)
    wanted = [item for item in there if not options.only or _kind(item) in options.only]
    if options.quick and not options.only:
        wanted = sorted(there, key=lambda item: _kind(item) != _FASTEST)[:1]
    if not wanted:
        kinds = " ".join(map(_kind, there))
        raise UserError(
            f"no archive of {model} in {options.store} is for {' or '.join(options.only)}; there: RUNTIME={kinds!r}; "
            f"`make archives MODEL={model}` builds all"
        )
    return wanted


def _kind(archive: Archive) -> str:
    """As the names of archives have it: `eager`, `openvino-int8`."""
    model = archive.identity.model
    return short_name(model.runtime, model.precision).replace(" ", "-")


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
    models: tuple[str, ...] = (),
    runtime: tuple[str, ...] = (),
    quick: bool = False,
    golden: Path | None = None,
    output: Path = _RESULTS,
    store: Path = STORE,
) -> None:
    """Measure speed against TorchServe's own handler: tables and plots.

    Args:
        models: names of the models; without it, the one model that lies in the store.
        runtime: runtimes as in the names of archives, `eager` or `openvino-int8`; all without it.
        quick: throughput and latency of one runtime only: without RUNTIME, the fastest that the model usually has.
        golden: folder of the pictures to send, in several sizes; photographs of scikit-image without it.
        output: folder to write the results into.
        store: folder of the archives.
    """
    require_wrk()
    named = list(models) or [model_in(store)]
    options = Options(models=named, only=list(runtime), quick=quick, store=store, output=output, golden=golden)
    begin = time.monotonic()
    _write(bench(options), options)
    step(f"took {(time.monotonic() - begin) / 60:.1f} minutes")
