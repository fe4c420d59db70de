"""A real Triton, on its Python backend: Python's answers, problems of one request alone, batches, versions."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import requests
import tritonclient.grpc
import tritonclient.http
from classifier.digests import DIGESTS_FILE, write_digests
from classifier.pipeline import Classifier
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException

from edge.triton.repository import REPOSITORY, write_repository
from edge.triton.server import ENVIRONMENT, Addresses, Client, serving
from scripts.archives.loaded import loaded
from scripts.archives.store import find_archive
from scripts.building.build import build
from scripts.building.golden import photograph
from scripts.building.options import Options
from scripts.console import UserError
from scripts.torchserve.failures import RequestFailedError
from tests.conftest import THIRD_MODEL
from tests.integration.conftest import CHECKOUT, PHOTOGRAPHS, STORE, make
from tests.integration.contract import LITE0, TIMEOUT_S

CLASSES = 1000


@pytest.fixture(scope="module")
def environment() -> Path:
    """Where Triton is installed; installed here if it is not."""
    result = make(f"{ENVIRONMENT}/.complete")
    assert result.returncode == 0, result.stderr
    return CHECKOUT / ENVIRONMENT


@pytest.fixture(scope="module")
def repository() -> Path:
    """What a user builds."""
    result = make("triton", f"MODEL={LITE0}")
    assert result.returncode == 0, result.stderr
    return CHECKOUT / REPOSITORY


@pytest.fixture(scope="module")
def triton(environment: Path, repository: Path) -> Iterator[Client]:
    with serving(repository, environment) as client:
        yield client


@pytest.fixture(scope="module")
def expected() -> list[dict[str, float]]:
    """Python's probability of each class, for each labelled photograph."""
    with loaded(STORE / f"{LITE0}-onnxruntime-4.0.mar") as classifier:
        pictures = [path.read_bytes() for path in PHOTOGRAPHS]
        return [by_class(found) for found in classifier.classify(pictures, [CLASSES] * len(pictures))]


def by_class(found: Any) -> dict[str, float]:
    return {item.class_id: item.probability for item in found}


def infer(client_module: Any, address: str, picture: bytes, model: str = LITE0, top_k: int | None = None) -> Any:
    """Ask by tritonclient, over HTTP or gRPC: the contract's answer."""
    image = client_module.InferInput("IMAGE", [1, len(picture)], "UINT8")
    image.set_data_from_numpy(np.frombuffer(picture, np.uint8)[None])
    parameters = None if top_k is None else {"top_k": top_k}
    with client_module.InferenceServerClient(address) as client:
        return json.loads(client.infer(model, [image], parameters=parameters).as_numpy("PREDICTIONS")[0, 0])


def infer_http(addresses: Addresses, picture: bytes, model: str = LITE0, top_k: int | None = None) -> Any:
    return infer(tritonclient.http, addresses.http, picture, model, top_k)


def infer_grpc(addresses: Addresses, picture: bytes, model: str = LITE0, top_k: int | None = None) -> Any:
    return infer(tritonclient.grpc, addresses.grpc, picture, model, top_k)


@pytest.mark.parametrize("ask", [infer_http, infer_grpc])
def test_its_probabilities_are_pythons(
    ask: Callable[..., Any], triton: Client, expected: list[dict[str, float]]
) -> None:
    best = {"chelsea": "Egyptian cat", "coffee": "espresso", "rocket": "missile", "motorcycle_left": "moped"}
    for path, probabilities in zip(PHOTOGRAPHS, expected, strict=True):
        answered = ask(triton.addresses, path.read_bytes(), top_k=CLASSES)
        found = {item["class_id"]: item["probability"] for item in answered["predictions"]}
        assert found == pytest.approx(probabilities, abs=1e-4)
        assert answered["class"].endswith(best.get(path.stem, "moped"))


def test_the_answer_is_the_contracts(triton: Client, cat: bytes) -> None:
    answered = triton.predict(cat, LITE0)
    assert answered.keys() == {"class", "probability", "predictions", "model"}
    assert len(answered["predictions"]) == 5
    assert answered["predictions"][0].keys() == {"class_id", "class_name", "probability"}
    assert answered["model"] == {
        "name": LITE0, "version": "4.0", "runtime": "onnxruntime", "precision": "float32",
        "weights": "efficientnet-lite0-57934424",
    }  # fmt: skip


def test_top_k_is_a_parameter_or_the_contracts_header(triton: Client, cat: bytes) -> None:
    assert len(infer_http(triton.addresses, cat, top_k=2)["predictions"]) == 2
    assert len(infer_grpc(triton.addresses, cat, top_k=3)["predictions"]) == 3
    assert len(triton.predict(cat, LITE0, top_k=4)["predictions"]) == 4
    with pytest.raises(RequestFailedError) as raised:
        triton.predict(cat, LITE0, top_k=CLASSES + 1)
    assert (raised.value.status, raised.value.code) == (400, "bad_parameter")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [(b"", 400, "empty_body"), (b"some text", 415, "not_an_image"), (None, 422, "image_broken")],
)
def test_a_bad_picture_is_a_problem_as_tritons_error(
    content: bytes | None, status: int, code: str, triton: Client
) -> None:
    picture = photograph("rocket.jpg").read_bytes()[:3000] if content is None else content
    with pytest.raises(RequestFailedError) as raised:
        triton.predict(picture, LITE0)
    assert (raised.value.status, raised.value.code) == (status, code)
    for ask, triton_status in ((infer_http, "400"), (infer_grpc, "StatusCode.INVALID_ARGUMENT")):
        with pytest.raises(InferenceServerException) as error:
            ask(triton.addresses, picture)
        assert error.value.status() == triton_status
        message = error.value.message()
        problem = json.loads(message[message.index("{") :])
        assert problem.keys() == {"type", "title", "status", "code", "detail"}
        assert (problem["status"], problem["code"]) == (status, code)


def test_pixels_may_go_straight_to_the_network_and_only_in_its_own_shape(triton: Client) -> None:
    pixels = np.zeros((3, 224, 224, 3), np.uint8)
    with tritonclient.http.InferenceServerClient(triton.addresses.http) as client:
        given = tritonclient.http.InferInput("pixels", pixels.shape, "UINT8")
        given.set_data_from_numpy(pixels)
        logits = client.infer(f"{LITE0}_network", [given], model_version="400").as_numpy("logits")
        given = tritonclient.http.InferInput("pixels", (1, 7, 5, 3), "UINT8")
        given.set_data_from_numpy(pixels[:1, :7, :5])
        with pytest.raises(InferenceServerException, match="unexpected shape"):
            client.infer(f"{LITE0}_network", [given])
    with loaded(STORE / f"{LITE0}-onnxruntime-4.0.mar") as classifier:
        np.testing.assert_allclose(logits, classifier.logits(pixels), atol=1e-4)


def test_an_unknown_model_or_version_is_not_found(triton: Client, cat: bytes) -> None:
    with pytest.raises(RequestFailedError, match="unknown model: 'nothing'") as raised:
        triton.predict(cat, "nothing")
    assert raised.value.status == 404
    with tritonclient.grpc.InferenceServerClient(triton.addresses.grpc) as client:
        assert client.is_model_ready(LITE0, "400")
        assert not client.is_model_ready(LITE0, "100")


def test_metadata_and_configuration_tell_a_client_what_to_send(triton: Client) -> None:
    with tritonclient.grpc.InferenceServerClient(triton.addresses.grpc) as client:
        metadata = client.get_model_metadata(LITE0, as_json=True)
        config = client.get_model_config(f"{LITE0}_network").config
    assert metadata["versions"] == ["400"]
    assert metadata["inputs"] == [{"name": "IMAGE", "datatype": "UINT8", "shape": ["-1", "-1"]}]
    assert metadata["outputs"] == [{"name": "PREDICTIONS", "datatype": "BYTES", "shape": ["-1", "1"]}]
    assert (config.max_batch_size, config.dynamic_batching.max_queue_delay_microseconds) == (8, 0)


class Tiny(NamedTuple):
    """A small model's archives, and where they are built."""

    store: Path

    def write(self, repository: Path, *runtimes: str) -> Path:
        archives = [find_archive(f"tiny-{runtime}", self.store) for runtime in runtimes]
        write_repository(archives, "python", repository)
        return repository


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Tiny:
    """Tiny with one worker that waits two seconds for eight pictures, or starts at once with the eighth."""
    folder = tmp_path_factory.mktemp("tiny")
    shutil.copy(THIRD_MODEL / "labels.json", folder)
    recipe = (THIRD_MODEL / "tiny.yaml").read_text()
    for name, value in (("batch_size", 8), ("max_batch_delay_ms", 2000), ("workers", 1)):
        recipe = re.sub(rf"{name}: \d+", f"{name}: {value}", recipe, count=1)
    (folder / "tiny.yaml").write_text(recipe)
    for runtime in ("eager", "torchscript"):
        build(
            Options(
                recipe=folder / "tiny.yaml",
                runtime=runtime,
                weights=str(tiny_weights),
                store=folder / "store",
                cache=folder / "cache",
            )
        )
    return Tiny(folder / "store")


class Counts(NamedTuple):
    """What the metrics port says of a model: pictures and batches that it computed."""

    pictures: int
    batches: int


def counts(client: Client, model: str) -> Counts:
    found = {
        sample.name.removesuffix("_total"): int(sample.value)
        for family in text_string_to_metric_families(client.metrics())
        for sample in family.samples
        if sample.labels.get("model") == model
    }
    return Counts(found["nv_inference_count"], found["nv_inference_exec_count"])


@pytest.fixture(scope="module")
def batching(environment: Path, tiny_model: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server of tiny whose decoder waits as long as its network does, so that eight pictures stay one batch."""
    repository = tiny_model.write(tmp_path_factory.mktemp("batching") / "repository", "eager")
    network, decode = (repository / f"tiny_{name}" / "config.pbtxt" for name in ("network", "decode"))
    (waiting,) = re.findall(r"^dynamic_batching .*$", network.read_text(), re.MULTILINE)
    decode.write_text(re.sub(r"^dynamic_batching .*$", waiting, decode.read_text(), flags=re.MULTILINE))
    with serving(repository, environment) as client:
        yield client


def ask_together(client: Client, pictures: list[bytes]) -> list[dict[str, Any] | RequestFailedError]:
    def one(picture: bytes) -> dict[str, Any] | RequestFailedError:
        with Client(client.addresses) as own:
            try:
                return own.predict(picture, "tiny")
            except RequestFailedError as error:
                return error

    with ThreadPoolExecutor(len(pictures)) as pool:
        return list(pool.map(one, pictures))


@pytest.mark.thorough
def test_requests_that_come_together_are_decoded_and_computed_in_one_batch(
    batching: Client, tiny: Classifier, cat: bytes, coffee: bytes
) -> None:
    before = [counts(batching, f"tiny_{name}") for name in ("decode", "network")]
    answers = ask_together(batching, [cat, coffee] * 4)
    for name, earlier in zip(("decode", "network"), before, strict=True):
        assert counts(batching, f"tiny_{name}") == Counts(earlier.pictures + 8, earlier.batches + 1)
    for answered, picture in zip(answers, [cat, coffee] * 4, strict=True):
        assert_tinys(answered, tiny, picture)


@pytest.mark.thorough
def test_three_bad_pictures_in_a_batch_of_eight_change_nothing_for_the_other_five(
    batching: Client, tiny: Classifier, cat: bytes, coffee: bytes
) -> None:
    broken = photograph("rocket.jpg").read_bytes()[:3000]
    pictures = [cat, b"", coffee, b"some text", cat, broken, coffee, cat]
    before = counts(batching, "tiny_decode")
    answers = ask_together(batching, pictures)
    assert counts(batching, "tiny_decode").batches == before.batches + 1
    codes = {1: (400, "empty_body"), 3: (415, "not_an_image"), 5: (422, "image_broken")}
    for index, (answered, picture) in enumerate(zip(answers, pictures, strict=True)):
        if index in codes:
            assert isinstance(answered, RequestFailedError)
            assert (answered.status, answered.code) == codes[index]
        else:
            assert_tinys(answered, tiny, picture)


def assert_tinys(answered: dict[str, Any] | RequestFailedError, tiny: Classifier, picture: bytes) -> None:
    assert not isinstance(answered, RequestFailedError), answered
    (expected,) = tiny.classify([picture], [5])
    found = {item["class_id"]: item["probability"] for item in answered["predictions"]}
    assert found == pytest.approx(by_class(expected), abs=1e-5)


@pytest.mark.thorough
def test_a_version_is_added_and_taken_back_while_the_server_runs(
    environment: Path, tiny_model: Tiny, tmp_path: Path, cat: bytes
) -> None:
    repository = tiny_model.write(tmp_path / "repository", "eager")
    with serving(repository, environment) as client:
        assert client.predict(cat, "tiny")["model"]["version"] == "1.0"
        for runtimes, version in ((("eager", "torchscript"), "2.0"), (("torchscript", "eager"), "1.0")):
            tiny_model.write(repository, *runtimes)
            assert load(client, "tiny") == 200
            assert client.predict(cat, "tiny")["model"]["version"] == version


def load(client: Client, model: str) -> int:
    url = f"http://{client.addresses.http}/v2/repository/models/{model}/load"
    return requests.post(url, timeout=TIMEOUT_S).status_code


@pytest.mark.thorough
def test_the_core_that_answers_is_the_repositorys_own(
    environment: Path, tiny_model: Tiny, tmp_path: Path, cat: bytes
) -> None:
    repository = tiny_model.write(tmp_path / "repository", "eager")
    folder = repository / "tiny_rank" / "100"
    service = folder / "classifier" / "service.py"
    service.write_text(service.read_text().replace("DEFAULT_TOP_K = 5", "DEFAULT_TOP_K = 2"))
    (folder / DIGESTS_FILE).unlink()
    write_digests(folder)
    with serving(repository, environment) as client:
        assert len(client.predict(cat, "tiny")["predictions"]) == 2


@pytest.mark.thorough
def test_a_changed_file_is_named_and_nothing_is_served(environment: Path, tiny_model: Tiny, tmp_path: Path) -> None:
    repository = tiny_model.write(tmp_path / "repository", "eager")
    labels = repository / "tiny_rank" / "100" / "labels.json"
    labels.write_text(labels.read_text().replace("star", "moon"))
    with pytest.raises(UserError, match=r"tiny_rank.*labels\.json was changed"), serving(repository, environment):
        pass


@pytest.mark.thorough
def test_make_triton_serve_says_how_to_ask_and_ends_when_interrupted(environment: Path) -> None:
    variables = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL")}
    command = ["make", "triton-serve", f"MODEL={LITE0}", "PORTS=free"]
    process = subprocess.Popen(
        command,  # the user's own make
        cwd=CHECKOUT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process, process.stdout as output:
        try:
            url = next(found[1] for line in output if (found := re.search(r"try +curl (\S+) ", line)))
        finally:
            os.killpg(process.pid, signal.SIGINT)
        assert url.endswith(f"/v2/models/{LITE0}/infer")
        assert "interrupted" in output.read()
