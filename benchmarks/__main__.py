"""Measures every archive of a model against TorchServe's own handler and other servers: `make bench`."""

import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import msgspec
from classifier.identity import UNTRAINED

from benchmarks.comparison import measure_turns, our_side, peer_side
from benchmarks.decoding import measure_decoding
from benchmarks.in_process import InProcess
from benchmarks.load import require_wrk
from benchmarks.measure import (
    Effort,
    measure_memory,
    measure_mixed,
    measure_open_loop,
    measure_rounds,
    measure_starts,
    serving_ours,
    serving_stock,
)
from benchmarks.peers import PeerName
from benchmarks.peers.server import require_peers
from benchmarks.peers.subject import UnlikePeersError, subject_of
from benchmarks.pictures import Kind, allowed, make_pictures
from benchmarks.plots import plot
from benchmarks.report import markdown, summary
from benchmarks.result import CLIENTS, FLOAT, LIGHT_CLIENTS, Result, Variant, new_result, short_name
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

_FULL: Final = Effort(warm_up_s=16, rounds=3, stock_s=6, seconds=4, lone_s=4)
_QUICK: Final = Effort(warm_up_s=8, rounds=3, stock_s=4, seconds=3, lone_s=1)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    models: list[str]
    only: list[str]
    quick: bool
    peers: list[PeerName] = []
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
            _judge(options, model, pictures, result)
            _write_figures(result, options.output)
    return result


def _bench_model(options: Options, model: str, every: dict[Kind, list[Path]], folder: Path, result: Result) -> None:
    reference, *_ = archives_of(model, options.store)
    pictures = allowed(every, read_archive_recipe(reference.path).input.max_pixels)
    stock = _stock(reference, folder, result)
    effort = _QUICK if options.quick else _FULL
    picture = pictures["small"][0]
    measured = [(_variant(archive), archive) for archive in _archives(options, model)]
    result.variants += [variant for variant, _ in measured]
    measure_starts(measured, stock, picture, 1 if options.quick else effort.rounds, step)
    with serving_stock(stock) if stock else nullcontext() as slow:
        for variant, archive in measured:
            _bench_archive(variant, archive, slow, pictures, effort, quick=options.quick)
    if not options.quick:
        _bench_memory(measured, stock, picture, result)
    if options.peers:
        _compare(options, reference, measured, pictures["small"], effort, result)


def _variant(archive: Archive) -> Variant:
    identity, size = archive.identity.model, _size(archive.path)
    return Variant(
        model=identity.name,
        runtime=identity.runtime,
        precision=identity.precision,
        clients=LIGHT_CLIENTS if size < _LIGHT * 1e6 else CLIENTS,
        weights_mb=size / 2**20,
    )


def _size(archive: Path) -> int:
    files = archive.rglob("*") if archive.is_dir() else [archive]
    return sum(path.stat().st_size for path in files if path.is_file())


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


def _bench_archive(
    variant: Variant,
    archive: Archive,
    slow: Server | None,
    pictures: dict[Kind, list[Path]],
    effort: Effort,
    *,
    quick: bool,
) -> None:
    with serving_ours(archive) as ours, InProcess(archive.path) as alone:
        measure_rounds(variant, ours, slow, alone, pictures["small"], effort, step)
        if not quick:
            measure_mixed(variant, ours, alone, pictures, effort, step)
            measure_open_loop(variant, ours, pictures["small"], effort, step)


def _bench_memory(
    measured: list[tuple[Variant, Archive]], stock: Archive | None, picture: Path, result: Result
) -> None:
    """Measure each server's memory while no other runs."""
    for variant, archive in measured:
        step(f"{variant.model} {variant.name}: memory")
        with serving_ours(archive) as ours:
            variant.memory = measure_memory(ours, picture)
    if stock:
        step("stock: memory")
        with serving_stock(stock) as slow:
            result.stock_memory[stock.identity.model.name] = measure_memory(slow, picture)


def _compare(
    options: Options,
    reference: Archive,
    measured: list[tuple[Variant, Archive]],
    bodies: list[Path],
    effort: Effort,
    result: Result,
) -> None:
    """Compare the eager archive, the fastest in float32 and the fastest of all with the other servers."""
    model = reference.identity.model.name
    fastest = sorted(measured, key=lambda pair: -pair[0].rate("served"))
    fastest_float = next(archive for variant, archive in fastest if variant.precision == FLOAT)
    ours = {archive.path: archive for archive in (reference, fastest_float, fastest[0][1])}.values()
    try:
        with subject_of(reference) as subject:
            sides = [our_side(archive) for archive in ours] + [peer_side(name, subject) for name in options.peers]
            clients = measured[0][0].clients
            measure_turns(sides, bodies, clients, effort, step, memory=not options.quick)
            result.contenders[model] = [side.contender for side in sides]
    except UnlikePeersError as error:
        result.without_peers[model] = str(error)
        step(f"{model}: the other servers cannot serve it: {error}")


def _judge(options: Options, model: str, every: dict[Kind, list[Path]], result: Result) -> None:
    """What needs no server: how long pictures take to decode, and whether archives agree."""
    reference, *_ = archives_of(model, options.store)
    archives = _archives(options, model)
    pictures = allowed(every, read_archive_recipe(reference.path).input.max_pixels)
    if "phone" in pictures and not result.decode:
        result.decode.append(measure_decoding(reference, pictures["phone"], pictures["small"]))
    if not options.quick and archives[0].identity.model.weights != UNTRAINED:
        result.agreement[model] = measure_agreement(model, archives, options.store)


def measure_agreement(model: str, archives: list[Archive], store: Path) -> dict[str, float]:
    """How often each of the archives has the same top-1 as the float32 eager archive."""
    names = {
        item.path.name: short_name(item.identity.model.runtime, item.identity.model.precision) for item in archives
    }
    return {names[item.name]: item.agreement for item in compare_archives(model, store) if item.name in names}


def _archives(options: Options, model: str) -> list[Archive]:
    """The archives of a model that are in the store and were asked for.

    Raises:
        UserError: there are none.
    """
    there = archives_of(model, options.store)
    wanted = [item for item in there if not options.only or _kind(item) in options.only]
    if options.quick and not options.only:
        wanted = sorted(there, key=lambda item: _kind(item) != _FASTEST)[:1]
    if options.peers and wanted and there[0] not in wanted:
        wanted.insert(0, there[0])  # what the other servers serve
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


def _write_figures(result: Result, folder: Path) -> Path:
    """Write what has been measured so far, so that a run that stops at its second model keeps the first."""
    folder.mkdir(parents=True, exist_ok=True)
    processor = "".join(letter if letter.isalnum() else "-" for letter in result.machine.processor.lower())
    stem = f"{result.day}-{processor}-{result.machine.cores}-cores" + ("-quick" if result.quick else "")
    path = folder / f"{stem}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    return path


def _write(result: Result, options: Options) -> None:
    figures = _write_figures(result, options.output)
    plots = plot(result, options.output, figures.stem)
    text = markdown(result)
    pictures = "".join(f"\n![{path.stem}]({path.name})\n" for path in plots)
    page = figures.with_suffix(".md")
    page.write_text(f"{text}{pictures}")
    if not result.quick:
        replace_block(Path("README.md"), "bench", summary(result, str(page)))
    out.print(text, markup=False)
    done(str(page))


def main(
    *,
    models: tuple[str, ...] = (),
    runtime: tuple[str, ...] = (),
    peers: tuple[PeerName, ...] = (),
    quick: bool = False,
    golden: Path | None = None,
    output: Path = _RESULTS,
    store: Path = STORE,
) -> None:
    """Measure speed against TorchServe's own handler, and against other servers: tables and plots.

    Args:
        models: names of the models; without it, the one model that lies in the store.
        runtime: runtimes as in the names of archives, `eager` or `openvino-int8`; all without it.
        peers: other servers to compare with, each from an environment of its own.
        quick: throughput and latency of one runtime only: without RUNTIME, the fastest that the model usually has.
        golden: folder of the pictures to send, in several sizes; photographs of scikit-image without it.
        output: folder to write the results into.
        store: folder of the archives.
    """
    require_wrk()
    require_peers(peers)
    named = list(models) or [model_in(store)]
    options = Options(
        models=named,
        only=list(runtime),
        peers=list(peers),
        quick=quick,
        store=store,
        output=output,
        golden=golden,
    )
    begin = time.monotonic()
    _write(bench(options), options)
    step(f"took {(time.monotonic() - begin) / 60:.1f} minutes")
