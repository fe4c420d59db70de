"""Every hostile picture in this process, in batches with good ones; what refusing one costs, in one of its own."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from classifier.decode import FORMATS
from classifier.pipeline import Classifier, load_pixels
from classifier.problems import Problem
from classifier.recipe import read_recipe
from classifier.responses import Response
from classifier.service import Request, answer

from scripts.building.golden import photograph
from stress.hostile import files as hostile_files
from stress.hostile.corpus import ACCEPTED, MAX_INSTANCES, MAX_PIXELS, corpus
from stress.questions import Body
from tests.unit.conftest import assert_same

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[4]
BATCH = 8
IDLE_TO_PEAK_MB = 64


@pytest.fixture(scope="module")
def bodies(hostile: list[Body]) -> list[Body]:
    """All of the corpus but the forms, which only a server can take apart."""
    return [body for body in hostile if not body.content_type.startswith("multipart/")]


@pytest.fixture(scope="module")
def classifier(tiny: Classifier) -> Classifier:
    """Tiny with the limits of the models that are served."""
    limits = msgspec.structs.replace(tiny.recipe.input, max_pixels=MAX_PIXELS)
    return msgspec.structs.replace(tiny, recipe=msgspec.structs.replace(tiny.recipe, input=limits))


def code_of(response: Response) -> str:
    return "" if response.status == 200 else str(json.loads(response.body)["code"])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
def test_every_hostile_picture_gets_its_one_answer_and_its_neighbours_theirs(
    classifier: Classifier, bodies: list[Body]
) -> None:
    friend = Request(body=photograph("coffee.png").read_bytes())
    (alone,) = answer(classifier, [friend])
    assert alone.status == 200
    wrong = []
    for start in range(0, len(bodies), BATCH - 1):
        batch = bodies[start : start + BATCH - 1]
        requests = [Request(body=body.content, content_type=body.content_type) for body in batch]
        *answers, last = answer(classifier, [*requests, friend])
        assert_same(last, alone)
        wrong += [
            (body.name, response.status, code_of(response))
            for body, response in zip(batch, answers, strict=True)
            if (response.status, code_of(response)) != (body.status, body.code)
        ]
    assert wrong == []


@pytest.mark.thorough
def test_the_corpus_is_the_same_each_time_and_its_names_are_unique(hostile: list[Body]) -> None:
    assert [again.name for body, again in zip(hostile, corpus(), strict=True) if body != again] == []
    assert len({body.name for body in hostile}) == len(hostile)


def test_the_corpus_has_what_it_promises(hostile: list[Body]) -> None:
    count = Counter(body.name.partition("/")[0] for body in hostile)
    assert count["flipped"] == 200
    assert count["truncated"] == 9 * len(hostile_files.KINDS) + 1
    assert count["exif"] == 16
    assert count["mode"] > 150
    assert min(count[group] for group in ("bomb", "structure", "metadata", "stranger", "json", "frames", "kind")) > 5
    assert {body.status for body in hostile} == {200, 400, 413, 415, 422}


def test_its_facts_are_those_of_the_decoder_and_the_recipes() -> None:
    assert ACCEPTED == FORMATS
    recipes = [read_recipe(path) for path in (CHECKOUT / "recipes").glob("*.yaml")]
    assert {recipe.input.max_pixels for recipe in recipes} == {MAX_PIXELS}
    assert {recipe.serving.max_instances for recipe in recipes} == {MAX_INSTANCES}


@pytest.mark.thorough
@pytest.mark.parametrize("max_pixels", [200_000, 1_000_000, 100_000_000])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
def test_a_recipe_with_another_limit_of_pixels_has_answers_of_its_own(tiny: Classifier, max_pixels: int) -> None:
    spec = msgspec.structs.replace(tiny.recipe.input, max_pixels=max_pixels)
    wrong = []
    for body in corpus(max_pixels, 3):
        if body.content_type or body.content.startswith(b"{") or body.status == 400 or body.name.startswith("largest"):
            continue
        found = load_pixels(body.content, spec)
        said = (found.status, found.code) if isinstance(found, Problem) else (200, "")
        if said != (body.status, body.code):
            wrong.append((body.name, said))
    assert wrong == []


MEASURE = """
import json, sys
import msgspec
from pathlib import Path
from classifier.pipeline import load_pixels
from classifier.problems import Problem
from classifier.recipe import Input
from stress.questions import Body

def memory(name):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024

spec = Input(resize=256, crop=224, max_pixels=64_000_000)
costs = {}
for body in msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[Body]):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    idle = memory("VmRSS")
    assert isinstance(load_pixels(body.content, spec), Problem) == (body.status != 200), body.name
    costs[body.name] = memory("VmHWM") - idle
json.dump(costs, sys.stdout)
"""


def memory_of(hostile: list[Body], *groups: str) -> tuple[dict[str, float], str]:
    """What each body of these groups takes while it is decoded, in MB, and what the process says meanwhile."""
    given = msgspec.msgpack.encode([body for body in hostile if body.name.partition("/")[0] in groups])
    command = [sys.executable, "-c", MEASURE]
    ended = subprocess.run(command, cwd=CHECKOUT, input=given, capture_output=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout), ended.stderr.decode()


def test_refusing_a_bomb_takes_little_memory_and_says_nothing(hostile: list[Body]) -> None:
    costs, said = memory_of(hostile, "bomb", "structure")
    assert len(costs) > 20
    assert max(costs.values()) < IDLE_TO_PEAK_MB, costs
    assert "Warning" not in said


@pytest.mark.thorough
def test_a_picture_as_large_as_is_allowed_takes_at_most_sixteen_bytes_a_pixel(hostile: list[Body]) -> None:
    costs, _ = memory_of(hostile, "largest")
    bytes_a_pixel = {"png-transparent": 8, "webp-transparent": 16, "tiff-floats": 16, "jpeg-progressive": 8}
    most = {f"largest/{name}": MAX_PIXELS * size / 2**20 + IDLE_TO_PEAK_MB for name, size in bytes_a_pixel.items()}
    assert costs.keys() == most.keys()
    assert {name: cost for name, cost in costs.items() if cost > most[name]} == {}
