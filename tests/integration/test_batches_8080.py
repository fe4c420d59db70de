"""One batch of eight, good and bad, predictions and explanations together: each item keeps its own answer."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from scripts.archives.store import find_archive
from scripts.building.golden import photograph
from scripts.building.overlay import Tuned
from scripts.serving.archives import as_snapshot
from scripts.torchserve.server import CONSOLE_LOG
from tests.integration.conftest import PHOTOGRAPHS, serving, store_with
from tests.integration.contract import LITE0, TIMEOUT_S, assert_problem, post, torchserve

CAT, ESPRESSO = "n02124075 Egyptian cat", "n07920052 espresso"
TOGETHER = Tuned(workers=1, threads="all", batch_size=8, max_batch_delay_ms=5000)  # wait for eight, then start at once


class Batching(NamedTuple):
    """A server whose one worker waits until it has eight requests."""

    address: str
    state: Path

    def batches(self) -> int:
        """How many batches the worker has received, by TorchServe's own log."""
        return (self.state / CONSOLE_LOG).read_text().count("Backend received inference at")


@pytest.fixture(scope="module")
def batching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Batching]:
    folder = tmp_path_factory.mktemp("batching")
    with serving(folder / "state", LITE0, store=store_with(TOGETHER, folder), log_config=None) as server:
        yield Batching(torchserve(server), folder / "state")


def test_three_bad_requests_in_a_batch_of_eight_change_nothing_for_the_other_five(
    batching: Batching, cat: bytes, coffee: bytes
) -> None:
    broken = photograph("rocket.jpg").read_bytes()[:3000]
    bodies = [cat, b"", coffee, b"some text", cat, broken, coffee, cat]
    before = batching.batches()
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda body: post(batching.address, LITE0, body), bodies))
    assert batching.batches() == before + 1
    assert [response.status_code for response in responses] == [200, 400, 200, 415, 200, 422, 200, 200]
    for index, code in ((1, "empty_body"), (3, "not_an_image"), (5, "image_broken")):
        assert_problem(responses[index], responses[index].status_code, code)
    classes = [response.json()["class"] for response in responses if response.ok]
    assert classes == [CAT, ESPRESSO, CAT, ESPRESSO, CAT]


def test_predictions_and_explanations_in_one_batch_each_get_their_own_kind_of_answer(
    batching: Batching, cat: bytes, coffee: bytes
) -> None:
    def ask(index: int) -> requests.Response:
        kind = ("predictions", "explanations")[index % 2]
        body = (cat, coffee)[index // 2 % 2]
        return requests.post(f"{batching.address}/{kind}/{LITE0}", data=body, timeout=TIMEOUT_S)

    before = batching.batches()
    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(ask, range(16)))
    assert batching.batches() == before + 2
    for index, response in enumerate(responses):
        assert response.status_code == 200, response.text
        assert response.json()["class"] == (CAT, ESPRESSO)[index // 2 % 2]
        assert ("heatmap" in response.json()) == bool(index % 2)
        assert ("predictions" in response.json()) != bool(index % 2)


def test_requests_that_wait_for_the_worker_are_computed_together(tmp_path: Path) -> None:
    """`make serve` must not tell TorchServe that there is no delay: it would compute two at a time, whatever waits."""
    store = store_with(Tuned(workers=1, threads="all", batch_size=8, max_batch_delay_ms=0), tmp_path)
    snapshot = as_snapshot([find_archive(f"{LITE0}-eager", store)])
    state = tmp_path / "state"
    with serving(state, f"{LITE0}-eager", store=store, log_config=None, model_snapshot=snapshot) as server:
        body = PHOTOGRAPHS[0].read_bytes()

        def ask(_: int) -> int:
            return sum(post(torchserve(server), LITE0, body).ok for _ in range(10))

        post(torchserve(server), LITE0, body).raise_for_status()  # its worker is there
        before = Batching(torchserve(server), state).batches()
        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(ask, range(16))) == 160
        batches = Batching(torchserve(server), state).batches() - before
    assert batches <= 40  # on average at least four of the eight; in pairs they would be 80
