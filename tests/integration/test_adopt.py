"""What people have, adopted with one command, archived in every runtime, and served: the same answers as before.

`ADOPTED=<file>` builds all archives of each source, which takes an hour, and writes the table of docs/adopt.md. Without
it, weights that are trained go through all of them, and the others through their first and last runtime.
"""

import math
import os
import re
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from classifier.cpu import computes
from classifier.identity import PARITY_FILE
from classifier.labels import load_labels
from classifier.recipe import PRECISIONS, Recipe, RuntimeName, Scores, Tolerance, read_recipe
from numpy.typing import NDArray

from scripts.archives.store import Archive, archives_of
from scripts.building.gate import Report
from scripts.torchserve.client import Client
from scripts.torchserve.server import stop
from tests.integration.conftest import CHECKOUT, make, serving
from tests.integration.decisive import write_pictures
from tests.integration.source import Made, Place, Source
from tests.integration.sources import SOURCES

NAME = "adopted"
ARCHITECTURES = CHECKOUT / "tests" / "adopted_models"
DEADLINE_S = 1800  # for seven archives and a server with all of them
GATE = re.compile(r"is not built, it differs from its reference: (.*)")  # the parity gate of a build
HEADER = """\
| source | `make adopt` | eager | torchscript | aotinductor | onnxruntime | openvino | bfloat16 | int8 | seconds |
|---|---|---|---|---|---|---|---|---|---|
"""
COLUMNS = (
    *((name, "float32") for name in PRECISIONS if name != "ncnn"),
    ("openvino", "bfloat16"),
    ("openvino", "int8"),
)


def _marked(source: Source) -> Any:
    further = () if source.quick else (pytest.mark.thorough,)
    return pytest.param(source, id=source.name.replace(" ", "-"), marks=[pytest.mark.timeout(DEADLINE_S), *further])


class Served(NamedTuple):
    """One archive against the source's own pipeline."""

    archive: Archive
    same: float  # share of pictures with the same top-1
    difference: float  # the largest of a probability

    @property
    def kind(self) -> tuple[str, str]:
        """Runtime and precision."""
        return self.archive.identity.model.runtime, self.archive.identity.model.precision


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_pictures(tmp_path_factory.mktemp("adopted") / "pictures")


@pytest.fixture
def place(tmp_path: Path, pictures: list[Path]) -> Iterator[Place]:
    """A folder for one source; megabytes of archives, and the server's state, which go in the end."""
    found = Place(tmp_path, pictures)
    found.recipes.mkdir()
    yield found
    stop(tmp_path / "state")


@pytest.mark.parametrize("source", [_marked(source) for source in SOURCES])
@pytest.mark.filterwarnings("ignore")  # the libraries' own, which their users see
def test_what_is_adopted_and_served_answers_as_its_own_library_does(source: Source, place: Place) -> None:
    made = source.make(place)
    expected = np.stack([made.pipeline(picture) for picture in place.pictures])
    began = time.monotonic()
    adopt(place, made)
    adopted = time.monotonic()
    recipe = read_recipe(place.recipes / f"{NAME}.yaml")
    refused = build(place, recipe, runtimes(source, recipe))
    built = time.monotonic()
    found = ask(place, recipe, expected)
    if table := os.environ.get("ADOPTED"):
        write_row(Path(table), source, made, found, refused, (adopted - began, built - adopted))
    assert not (source.trained and refused)
    for served in found:
        with zipfile.ZipFile(served.archive.path) as file:
            allowed = msgspec.json.decode(file.read(PARITY_FILE), type=Report).tolerance
        assert served.same >= allowed.top1_agreement, served
        assert served.difference <= most(allowed, recipe.scores), served


def most(allowed: Tolerance, scores: Scores) -> float:
    """How far a probability may be off where logits may be off by the recipe's tolerance t.

    The worst is that one logit rises by t and all others fall by t, from p = 1 / (1 + e^t): tanh(t / 2).
    """
    return allowed.max_abs_logit if scores == "none" else math.tanh(allowed.max_abs_logit / 2)


def adopt(place: Place, made: Made) -> None:
    run("adopt", place, {**made.variables, "NAME": NAME, "HANDLERS": place.folder / "handlers"})


def runtimes(source: Source, recipe: Recipe) -> tuple[RuntimeName, ...]:
    """The runtimes to build for in float32; none means all archives, in all precisions."""
    if source.trained or "ADOPTED" in os.environ:
        return ()
    return source.quick or tuple(dict.fromkeys((recipe.archives[0].runtime, recipe.archives[-1].runtime)))


def build(place: Place, recipe: Recipe, quick: tuple[RuntimeName, ...]) -> dict[tuple[str, str], str]:
    """Build archives for the quick runtimes, or all that this processor computes.

    Returns:
        The lower precisions that the parity gate refused, and why. No training made seeded weights robust against
        rounding, so that may be.
    """
    run("archive", place, {"RUNTIME": " ".join(quick or dict.fromkeys(item.runtime for item in recipe.archives))})
    refused: dict[tuple[str, str], str] = {}
    for item in recipe.archives:
        if item.precision != "float32" and not quick and computes(item.precision):
            result = attempt("archive", place, {"RUNTIME": item.runtime, "PRECISION": item.precision})
            if result.returncode != 0:
                why = GATE.search(result.stderr)
                assert why is not None, result.stderr
                refused[item.runtime, item.precision] = why[1]
    return refused


def run(verb: str, place: Place, variables: dict[str, Any]) -> None:
    result = attempt(verb, place, variables)
    assert result.returncode == 0, result.stdout + result.stderr


def attempt(verb: str, place: Place, variables: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run a verb of make with the user's own architectures where make finds those of handlers/."""
    path = os.pathsep.join(map(str, (ARCHITECTURES, place.folder / "handlers")))
    folders: dict[str, Any] = {"RECIPES": place.recipes}
    if verb == "archive":
        folders |= {"MODEL": NAME, "STORE": place.folder / "store", "STATE": place.folder / "state"}
    given = [f"{name}={value}" for name, value in {**folders, **variables}.items()]
    return make(verb, *given, environment={"PYTHONPATH": path})


def ask(place: Place, recipe: Recipe, expected: NDArray[np.float32]) -> list[Served]:
    """Serve all archives at once, and ask each of them for each picture."""
    store = place.folder / "store"
    ids = [label.class_id for label in load_labels(recipe.labels, place.recipes)]
    archives = archives_of(NAME, store)
    names = [archive.path.name for archive in archives]
    with serving(place.folder / "state", *names, store=store) as server:
        client = Client(server.addresses)
        found = []
        for archive in archives:
            rows = [probabilities(client, picture, archive, ids) for picture in place.pictures]
            same = float((np.argmax(rows, 1) == expected.argmax(1)).mean())
            found.append(Served(archive, same, float(np.abs(np.stack(rows) - expected).max())))
    return found


def probabilities(client: Client, picture: Path, archive: Archive, ids: list[str]) -> NDArray[np.float32]:
    """The probability of each class, in the order of the labels."""
    version = archive.identity.model.version
    answer = client.predict(picture.read_bytes(), NAME, version=version, top_k=len(ids))
    by_id = {item["class_id"]: item["probability"] for item in answer["predictions"]}
    return np.array([by_id[each] for each in ids], np.float32)


def write_row(
    table: Path,
    source: Source,
    made: Made,
    found: list[Served],
    refused: dict[tuple[str, str], str],
    seconds: tuple[float, float],
) -> None:
    """Add a line to the table: the largest difference of a probability, and the share of the same top-1 if not all."""
    said = {name: value.name if isinstance(value, Path) else value for name, value in made.variables.items()}
    command = " ".join(f"{name}={value}" for name, value in said.items())
    cells = {kind: f"not built: {why.replace('|', '')}" for kind, why in refused.items()}
    for served in found:
        share = "" if served.same == 1 else f", {served.same:.0%}"
        cells[served.kind] = f"{served.difference:.0e}{share}"
    columns = [source.name, f"`{command}`", *(cells.get(kind, "") for kind in COLUMNS)]
    took = ", ".join(f"{each:.0f}" for each in seconds)
    with table.open("a") as file:
        file.write(f"{'' if file.tell() else HEADER}| {' | '.join(columns)} | {took} |\n")
