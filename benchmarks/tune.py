"""Finds the archive, workers, threads and batch size that are best for a model on this machine: `make tune`.

It tries settings on a real server under load, stores every trial, and continues where it was interrupted.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args

from classifier.cpu import usable_cores
from classifier.digests import DIGESTS_FILE
from classifier.identity import RECIPE_FILE
from classifier.pipeline import threads_per_worker
from classifier.recipe import Precision, Serving, read_recipe
from msgspec.structs import replace

from benchmarks.load import Load, closed_loop, require_wrk
from benchmarks.measure import serving_ours
from benchmarks.pareto import best, pareto_table, plot
from benchmarks.pictures import allowed, make_pictures
from benchmarks.result import CLIENTS
from benchmarks.running import url
from scripts.archives.loaded import unpacked
from scripts.archives.name import ArchiveName
from scripts.archives.settings import MODEL_CONFIG
from scripts.archives.store import STORE, Archive, archives_of, model_in, read_archive_recipe
from scripts.building.golden import pictures_in
from scripts.building.options import TUNED
from scripts.building.overlay import Overlay, Tuned, apply, repack, write_overlay
from scripts.building.release import alone, next_version
from scripts.console import done, out, progress, step

if TYPE_CHECKING:
    import optuna  # an optional package: imported where it is used

_BATCHES: Final = (1, 2, 4, 8, 16)
_DELAYS_MS: Final = (0, 1, 5)
_WARM_UP_S: Final = 2
_SECONDS: Final = 6
# The order of precisions: a floor of bfloat16 allows bfloat16 and float32.
_FLOORS: Final[dict[Precision, tuple[Precision, ...]]] = {
    "float32": ("float32",),
    "float16": ("float32", "float16"),
    "bfloat16": ("float32", "float16", "bfloat16"),
    "int8": get_args(Precision),
}


class Layout(NamedTuple):
    """How the work is spread over the cores."""

    workers: int
    threads: int  # of each

    def __str__(self) -> str:
        """The text that a study stores, because it cannot store this type."""
        return f"{self.workers} x {self.threads}"

    @classmethod
    def parse(cls, text: str) -> "Layout":
        """Parse the text that a study stores."""
        workers, threads = text.split(" x ")
        return cls(int(workers), int(threads))


class Tuner:
    """Tries settings of a model's archives, which it keeps unpacked in a folder."""

    def __init__(
        self, archives: list[Archive], study: "optuna.Study", folder: Path, cores: int, golden: Path | None = None
    ) -> None:
        """Unpack nothing yet.

        Args:
            archives: the archives to try.
            study: stores the trials.
            folder: folder to work in.
            cores: processor cores to spread the work over.
            golden: folder of the pictures to send; scikit-image's photographs without it.
        """
        self._archives = {str(variant(archive)): archive for archive in archives}
        self._study = study
        self._folder = folder
        self._cores = cores
        pictures = make_pictures(folder / "pictures", pictures_in(golden, "GOLDEN") if golden else [])
        self._bodies = allowed(pictures, read_archive_recipe(archives[0].path).input.max_pixels)["small"]

    def enqueue_recipes(self) -> None:
        """Begin with the recipe's settings for each archive."""
        for name in self._archives:
            serving = read_recipe(self._unpacked(name) / RECIPE_FILE).serving
            self._study.enqueue_trial(
                {
                    "archive": name,
                    "layout": str(Layout(serving.workers, threads_per_worker(serving))),
                    "batch_size": serving.batch_size,
                    "delay_ms": serving.max_batch_delay_ms,
                },
                skip_if_exists=True,
            )

    def trial(self, trial: "optuna.Trial") -> tuple[float, float]:
        """Serve with one choice of settings under load; pictures a second, and p99 in ms."""
        import optuna

        name = trial.suggest_categorical("archive", sorted(self._archives))
        serving = _suggest(trial, self._cores)
        load = self._measure(name, serving)
        trial.set_user_attr("failed", load.failed)
        if load.failed or not load.answers:
            raise optuna.TrialPruned(f"{load.failed} requests failed")
        return load.rate, load.p99_ms

    def _measure(self, name: str, serving: Tuned) -> Load:
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="trial-") as trial_folder:
            store = Path(trial_folder)
            folder = store / name.partition(".")[0]
            shutil.copytree(self._unpacked(name), folder, copy_function=os.link)
            _own_copies(folder)
            apply(serving, folder)
            with serving_ours(Archive(folder, self._archives[name].identity)) as server:
                closed_loop(url(server), self._bodies, CLIENTS, _WARM_UP_S)
                return closed_loop(url(server), self._bodies, CLIENTS, _SECONDS)

    def _unpacked(self, name: str) -> Path:
        folder = self._folder / "unpacked" / name
        if not folder.exists():
            with unpacked(self._archives[name].path) as content:
                shutil.copytree(content, folder, ignore=shutil.ignore_patterns("__pycache__"))
        return folder


def layouts(cores: int) -> list[Layout]:
    """All layouts with one thread for each core, and one of two workers with as many threads as cores each.

    Each of those two computes while the other is between two batches, if their runtime does not wait busily.
    """
    once = [Layout(workers, cores // workers) for workers in range(1, cores + 1) if cores % workers == 0]
    return [*once, Layout(2, cores)] if cores > 1 else once


def _suggest(trial: "optuna.Trial", cores: int) -> Tuned:
    trial.suggest_categorical("layout", [str(layout) for layout in layouts(cores)])
    trial.suggest_categorical("batch_size", _BATCHES)
    trial.suggest_categorical("delay_ms", _DELAYS_MS)
    return settings(trial.params)


def settings(parameters: Mapping[str, Any]) -> Tuned:
    """The settings that a trial's parameters stand for."""
    layout = Layout.parse(parameters["layout"])
    return Tuned(
        workers=layout.workers,
        threads=layout.threads,
        batch_size=parameters["batch_size"],
        max_batch_delay_ms=parameters["delay_ms"],
    )


def _own_copies(folder: Path) -> None:
    """Replace links to the unpacked archive by copies, for the files that settings change."""
    for path in (folder / name for name in (RECIPE_FILE, MODEL_CONFIG, DIGESTS_FILE)):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)


def tune(
    model: str, store: Path, p99_ms: float, floor: Precision, trials: int, folder: Path, golden: Path | None = None
) -> Overlay:
    """Search, then write the winner as the model's overlay and as a new version of its archive.

    Raises:
        UserError: the model has no archives, or no setting is within the bound.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    archives = [item for item in archives_of(model, store) if item.identity.model.precision in _FLOORS[floor]]
    folder.mkdir(exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=f"{model}, {floor} and better",
        storage=JournalStorage(JournalFileBackend(str(folder / f"{model}.trials"))),
        load_if_exists=True,
        directions=["maximize", "minimize"],
        sampler=optuna.samplers.TPESampler(seed=len(archives), multivariate=True),
    )
    before = sum(bool(trial.values) for trial in study.trials)
    if before:
        step(f"continuing after {before} trials; remove {folder / model}.trials to start over")
    with tempfile.TemporaryDirectory(prefix="tune-") as name:
        tuner = Tuner(archives, study, Path(name), usable_cores(), golden)
        tuner.enqueue_recipes()
        with progress(f"trials of {model}", max(0, trials - before)) as advance:
            while before < trials:
                study.optimize(tuner.trial, n_trials=1)
                before += 1
                advance(1)
    out.print(pareto_table(study, p99_ms))
    plot(study, p99_ms, folder / f"{model}.png")
    return _adopt(best(study.trials, p99_ms), archives, folder, p99_ms)


def _adopt(winner: "optuna.trial.FrozenTrial", archives: list[Archive], folder: Path, p99_ms: float) -> Overlay:
    archive = next(item for item in archives if str(variant(item)) == winner.params["archive"])
    serving = settings(winner.params)
    rate, p99 = winner.values
    identity = archive.identity.model
    overlay = Overlay(
        model=identity.name,
        runtime=identity.runtime,
        precision=identity.precision,
        serving=serving,
        found=f"{rate:.1f} pictures/s, p99 {p99:.0f} ms with {CLIENTS} clients (bound: {p99_ms:.0f} ms), "
        f"{time.strftime('%Y-%m-%d')}",
    )
    path = write_overlay(overlay, folder)
    done(f"{path}: {archive.path.name}, {overlay.found}")
    recipe = read_archive_recipe(archive.path)
    if not has_settings(recipe.serving, serving):
        store, own = archive.path.parent, recipe.variant(identity.runtime, identity.precision).version
        with alone(identity.name, store):
            version = next_version(replace(variant(archive), version=own), recipe, store)
            done(f"{repack(archive, serving, version, store)} has these settings, as a new version")
    return overlay


def variant(archive: Archive) -> ArchiveName:
    """The name of an archive without its version, by which the trials of all versions are known."""
    model = archive.identity.model
    return ArchiveName(model=model.name, runtime=model.runtime, precision=model.precision)


def has_settings(recipe: Serving, tuned: Tuned) -> bool:
    """Whether a recipe's `serving` is tuned like that already."""
    return all(getattr(recipe, field) == getattr(tuned, field) for field in Tuned.__struct_fields__)


def main(
    *,
    model: str | None = None,
    p99_ms: float = 400,
    precision: Precision = "int8",
    trials: int = 24,
    golden: Path | None = None,
    output: Path = TUNED,
    store: Path = STORE,
) -> None:
    """Find the best archive, workers, threads and batch size for this machine.

    Args:
        model: name of the model; without it, the one model that lies in the store.
        p99_ms: the bound on the 99th percentile of the latency under load, in ms.
        precision: the lowest precision to try.
        trials: number of trials in all, with those of earlier runs.
        golden: folder of the pictures to send; photographs of scikit-image without it.
        output: folder to write the settings into.
        store: folder of the archives.
    """
    require_wrk()
    tune(model or model_in(store), store, p99_ms, precision, trials, output, golden)
