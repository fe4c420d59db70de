"""What people have, adopted with one command, archived in every runtime, and served: the same answers as before.

`ADOPTED=<file>` writes the table of docs/adopt.md.
"""

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from classifier.identity import PARITY_FILE
from classifier.labels import load_labels
from classifier.recipe import Recipe, Scores, Tolerance, read_recipe
from numpy.typing import NDArray

from scripts.archives.loaded import unpacked
from scripts.archives.store import Archive, archives_of
from scripts.torchserve.client import Client
from scripts.torchserve.server import stop
from tests.integration.conftest import CHECKOUT, make, serving
from tests.integration.decisive import write_pictures
from tests.integration.sources import SOURCES, Made, Place, Source

NAME = "adopted"
ARCHITECTURES = CHECKOUT / "tests" / "adopted_models"
DEADLINE_S = 1800  # for seven archives and a server with all of them
HEADER = """\
| source | `make adopt` | same top-1, largest difference of a probability | seconds to adopt, to build |
|---|---|---|---|
"""


def _marked(source: Source) -> Any:
    further = () if source.quick else (pytest.mark.thorough,)
    return pytest.param(source, id=source.name.replace(" ", "-"), marks=[pytest.mark.timeout(DEADLINE_S), *further])


class Served(NamedTuple):
    """One archive against the source's own pipeline."""

    archive: Archive
    same: float  # share of pictures with the same top-1
    difference: float  # the largest of a probability


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
    build(place, () if thorough(source) else source.quick)
    built = time.monotonic()
    recipe = read_recipe(place.recipes / f"{NAME}.yaml")
    found = ask(place, recipe, expected)
    if table := os.environ.get("ADOPTED"):
        write_row(Path(table), source, made, found, (adopted - began, built - adopted))
    variants = {(variant.runtime, variant.precision): variant.allowed for variant in recipe.archives}
    for served in found:
        model = served.archive.identity.model
        allowed = variants[model.runtime, model.precision]
        assert served.same >= allowed.top1_agreement, served
        assert served.difference <= most(allowed, recipe.scores), served


def thorough(source: Source) -> bool:
    """Whether all runtimes are tried: of the quick sources only with the table."""
    return not source.quick or "ADOPTED" in os.environ


def most(allowed: Tolerance, scores: Scores) -> float:
    """How far a probability may be off where logits may be off by the recipe's tolerance t.

    The worst is that one logit rises by t and all others fall by t, from p = 1 / (1 + e^t): tanh(t / 2).
    """
    return allowed.max_abs_logit if scores == "none" else math.tanh(allowed.max_abs_logit / 2)


def adopt(place: Place, made: Made) -> None:
    variables = {**made.variables, "NAME": NAME, "RECIPES": place.recipes, "HANDLERS": place.folder / "handlers"}
    run("adopt", place, variables)


def build(place: Place, runtimes: tuple[str, ...]) -> None:
    """Build archives for these runtimes in float32, or all of them."""
    variables = {
        "MODEL": NAME,
        "RECIPES": place.recipes,
        "STORE": place.folder / "store",
        "STATE": place.folder / "state",
    }
    if runtimes:
        run("archive", place, {**variables, "RUNTIME": ",".join(runtimes)})
    else:
        run("archives", place, variables)


def run(verb: str, place: Place, variables: dict[str, Any]) -> None:
    """Run a verb of make with the user's own architectures where make finds those of handlers/."""
    path = os.pathsep.join(map(str, (ARCHITECTURES, place.folder / "handlers")))
    given = [f"{name}={value}" for name, value in variables.items()]
    result = make(verb, *given, environment={"PYTHONPATH": path})
    assert result.returncode == 0, result.stdout + result.stderr


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


def write_row(table: Path, source: Source, made: Made, found: list[Served], seconds: tuple[float, float]) -> None:
    """Add a line to the table."""
    command = " ".join(
        f"{name}={value.name if isinstance(value, Path) else value}" for name, value in made.variables.items()
    )
    cells = []
    for served in found:
        model = served.archive.identity.model
        runtime = model.runtime if model.precision == "float32" else f"{model.runtime} {model.precision}"
        with unpacked(served.archive.path) as folder:
            logits = json.loads((folder / PARITY_FILE).read_bytes())["max_abs_logit"]
        cells.append(f"{runtime} {served.same:.0%}, {served.difference:.0e} (logits {logits:.0e})")
    took = ", ".join(f"{each:.0f}" for each in seconds)
    with table.open("a") as file:
        file.write(f"{'' if file.tell() else HEADER}| {source.name} | `{command}` | {'; '.join(cells)} | {took} |\n")
