"""Every runtime and precision behind the inference port: the right answers, and a hostile batch that hurts nobody."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import psutil
import pytest
import requests
from classifier.cpu import computes
from classifier.identity import Model
from classifier.recipe import read_recipe
from PIL import Image

from scripts.archives.loaded import unpacked
from scripts.archives.name import ArchiveName
from scripts.archives.store import archives_of
from scripts.building.golden import photograph
from scripts.building.overlay import Tuned, apply
from scripts.measuring.parity import Comparison, compare_archives
from scripts.torchserve.client import Client
from scripts.torchserve.server import CONSOLE_LOG, Server
from tests.integration.conftest import CHECKOUT, STORE, make, serving

pytestmark = pytest.mark.thorough

LITE0 = "efficientnet_lite0"
RECIPE = read_recipe(CHECKOUT / f"recipes/{LITE0}.yaml")
VARIANTS = [
    f"{item.runtime}-{item.precision}"
    for item in RECIPE.archives
    if computes(item.precision)  # the others are not built
]
VIEWS = 40  # of each of the five labelled photographs: 200
AGREEMENT = {"float32": 0.995, "bfloat16": 0.995, "int8": 0.98}
TIMEOUT_S = 60
# Eight requests that wait for each other, and then start at once
TOGETHER = Tuned(workers=1, threads="all", batch_size=8, max_batch_delay_ms=5000)


@pytest.fixture(scope="module", autouse=True)
def every_archive() -> None:
    result = make("archives", f"MODEL={LITE0}")
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("every-runtime")


@pytest.fixture(scope="module")
def versions(state: Path) -> Iterator[tuple[Server, dict[str, Model]]]:
    """One server with all archives of the model as its versions, each of which waits for a full batch."""
    store = state / "store"
    models = {}
    for archive in archives_of(LITE0, STORE):
        name = archive.path.name.removesuffix(".mar")
        with unpacked(archive.path) as content:
            shutil.copytree(content, store / name, ignore=shutil.ignore_patterns("__pycache__"))
        apply(TOGETHER, store / name)
        models[name] = archive.identity.model
    first, *others = models
    with serving(state, first, store=store, log_config=None) as server:
        for name in others:
            Client(server.addresses).register(name, models[name].name, models[name].version)
        yield server, {f"{model.runtime}-{model.precision}": model for model in models.values()}


def face_of_the_cat() -> bytes:
    """Of the whole photograph the model itself is undecided: 0.377 Egyptian, 0.377 tiger cat; of this 0.59 and 0.23."""
    stream = BytesIO()
    with Image.open(photograph("chelsea.png")) as picture:
        picture.crop((120, 20, 330, 230)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("variant", VARIANTS)
def test_three_bad_requests_in_a_batch_change_nothing_for_the_labelled_photographs_in_it(
    versions: tuple[Server, dict[str, Model]], state: Path, variant: str
) -> None:
    server, models = versions
    coffee, rocket, moped = (
        photograph(name).read_bytes() for name in ("coffee.png", "rocket.jpg", "motorcycle_left.png")
    )
    cat = face_of_the_cat()
    bodies = [cat, b"", coffee, b"some text", rocket, rocket[:3000], moped, cat]
    url = f"{server.addresses.inference}/predictions/{LITE0}/{models[variant].version}"
    before = batches(state)
    with ThreadPoolExecutor(len(bodies)) as pool:
        responses = list(pool.map(lambda body: requests.post(url, data=body, timeout=TIMEOUT_S), bodies))
    assert batches(state) == before + 1
    assert [response.status_code for response in responses] == [200, 400, 200, 415, 200, 422, 200, 200]
    answers = [response.json() for response in responses]
    assert [answer["code"] for answer in answers if "code" in answer] == ["empty_body", "not_an_image", "image_broken"]
    good = [answer for answer in answers if "class" in answer]
    names = [answer["predictions"][0]["class_name"] for answer in good]
    assert names == ["Egyptian cat", "espresso", "missile", "moped", "Egyptian cat"]
    assert {answer["model"]["runtime"] + "-" + answer["model"]["precision"] for answer in good} == {variant}


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_workers_that_compute_with_torch_have_loaded_it(
    versions: tuple[Server, dict[str, Model]], variant: str
) -> None:
    """After the answers of the test above, refused ones among them."""
    server, models = versions
    (pid,) = Client(server.addresses).version(LITE0, models[variant].version).pids
    mapped = any(file.path.endswith("/libtorch_cpu.so") for file in psutil.Process(pid).memory_maps())
    assert mapped == (models[variant].runtime in ("eager", "torchscript", "aotinductor"))


@pytest.fixture(scope="module")
def comparisons() -> dict[str, Comparison]:
    found = ((ArchiveName.parse(item.name), item) for item in compare_archives(LITE0, STORE, VIEWS))
    return {f"{name.runtime} {name.precision}": item for name, item in found if name is not None}


@pytest.mark.parametrize("variant", VARIANTS)
def test_views_of_real_photographs_get_the_class_that_the_reference_gives_them(
    comparisons: dict[str, Comparison], variant: str
) -> None:
    runtime, _, precision = variant.partition("-")
    assert comparisons[f"{runtime} {precision}"].agreement >= AGREEMENT[precision]


def batches(state: Path) -> int:
    """How many batches the workers have received, by TorchServe's own log."""
    return (state / CONSOLE_LOG).read_text().count("Backend received inference at")
