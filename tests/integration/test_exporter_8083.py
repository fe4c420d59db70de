"""The exporter beside a real server: what it counts is what clients counted, and its pages tell the truth."""

import bisect
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import requests
from classifier.metrics import SECONDS
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from scripts.archives.store import find_archive
from scripts.exporter.exporter import exporting
from scripts.torchserve.config import EXPORTER, read_config, with_free_ports, write_config
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.grpc_client import GrpcClient
from scripts.torchserve.launch import Variables
from scripts.torchserve.server import METRICS, Server, find, front_end, serving, workers
from tests.integration.conftest import CHECKOUT, make
from tests.integration.contract import TIMEOUT_S

TINY = "tiny"
WORKERS = 2  # of each version, as the recipe says
CLIENTS = 8
LAG_S = 5.0  # in which the last answers must be counted

Sample = tuple[str, frozenset[tuple[str, str]]]


class Exported(NamedTuple):
    """A server with two versions of the tiny model, its exporter, and its state folder."""

    server: Server
    state: Path

    def page(self, path: str) -> requests.Response:
        return requests.get(f"{self.server.addresses.exporter}{path}", timeout=TIMEOUT_S)

    def samples(self) -> dict[Sample, float]:
        """Every sample of the page of metrics, by its name and labels."""
        families = text_string_to_metric_families(self.page("/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}

    def sum(self, name: str, *by: str, **labels: str) -> Counter[tuple[str, ...]]:
        """The sums of a metric's samples that have these labels, by the values of other labels."""
        found: Counter[tuple[str, ...]] = Counter()
        for (sample, pairs), value in self.samples().items():
            have = dict(pairs)
            if sample == name and labels.items() <= have.items():
                found[tuple(have[label] for label in by)] += value  # type: ignore[assignment] # floats
        return +found


@pytest.fixture(scope="module")
def exported(tiny_archive: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    paths = [tiny_archive("eager"), tiny_archive("torchscript")]
    store, state = paths[0].parent, tmp_path_factory.mktemp("exported")
    config = with_free_ports(read_config(CHECKOUT / "config.properties") | {EXPORTER: "http://127.0.0.1:1"})
    config |= {"model_store": str(store)}
    archives = [find_archive(path.name, store) for path in paths]
    variables = Variables(metrics=state / METRICS)
    with serving(config, archives, state, variables=variables) as server, exporting(server, state):
        yield Exported(server, state)


def picture(side: int, kind: str) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (side, side), (200, 30, 30)).save(stream, kind)
    return stream.getvalue()


def jpeg() -> bytes:
    return picture(32, "JPEG")


LARGE = picture(2000, "PNG")  # takes some 50 ms
TIMED = 150  # of them


class Asked(NamedTuple):
    """One request: its path below /predictions and its body, and which version answers, if any."""

    path: str
    body: bytes
    version: str


def questions(number: int) -> list[Asked]:
    """Good and bad pictures for both versions and the default one, and what no worker ever sees."""
    good = jpeg()
    kinds = [good, good, good, b"", b"some text", good[: len(good) // 2], good]
    asked = [Asked(path, body, version) for body in kinds for path, version in VERSIONS]
    asked += [Asked("none", good, ""), Asked(f"{TINY}/9.9", good, "")]
    return list(islice(cycle(asked), number))


VERSIONS = (("tiny", "1.0"), ("tiny/1.0", "1.0"), ("tiny/2.0", "2.0"))


class Answered(NamedTuple):
    """What a client noted."""

    version: str
    status: int
    code: str
    seconds: float


def ask(exported: Exported, asked: Asked, session: requests.Session) -> Answered:
    begin = time.perf_counter()
    url = f"{exported.server.addresses.inference}/predictions/{asked.path}"
    headers = {"Content-Type": "image/jpeg"}
    answer = session.post(url, data=asked.body, headers=headers, timeout=TIMEOUT_S)
    seconds = time.perf_counter() - begin
    code = answer.json().get("code", "") if answer.headers.get("Content-Type") == "application/problem+json" else ""
    return Answered(asked.version, answer.status_code, code, seconds)


def ask_all(exported: Exported, asked: list[Asked]) -> list[Answered]:
    """Ask with several clients at once."""

    def client(share: list[Asked]) -> list[Answered]:
        with requests.Session() as session:
            return [ask(exported, item, session) for item in share]

    shares = [asked[start::CLIENTS] for start in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(chain.from_iterable(pool.map(client, shares)))


def eventually(found: Callable[[], Any], expected: Any) -> None:
    """The last answers are counted a moment after clients have them."""
    deadline = time.monotonic() + LAG_S
    while (now := found()) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert now == expected


@pytest.mark.parametrize("number", [1000, pytest.param(20_000, marks=pytest.mark.thorough)])
def test_counters_are_what_clients_counted(exported: Exported, number: int) -> None:
    by_worker = partial(exported.sum, "classifier_answers_total", "version", "status", "code", wants="prediction")
    by_front_end = partial(exported.sum, "classifier_requests_total", "version", "status", by="torchserve")
    all_of_them = partial(exported.sum, "classifier_requests_total", "status", entrance="http", wants="prediction")
    before = [found() for found in (by_worker, by_front_end, all_of_them)]
    answers = ask_all(exported, questions(number))
    of_workers = Counter((item.version, str(item.status), item.code) for item in answers if item.version)
    others = Counter(("", str(item.status)) for item in answers if not item.version)
    assert {status for _, status, _ in of_workers} == {"200", "400", "415", "422"}
    assert {status for _, status in others} == {"404"}
    eventually(lambda: by_worker() - before[0], of_workers)
    eventually(lambda: by_front_end() - before[1], others)
    eventually(lambda: all_of_them() - before[2], Counter((str(item.status),) for item in answers))


def test_histograms_say_what_clients_measured_to_a_bucket(exported: Exported) -> None:
    """With pictures that take so long that a client's own time does not count, and one client that waits for nobody."""
    of_version = partial(exported.sum, "classifier_request_seconds_bucket", "le", wants="prediction", version="2.0")
    before = of_version()
    with requests.Session() as session:
        seconds = [ask(exported, Asked("tiny/2.0", LARGE, "2.0"), session).seconds for _ in range(TIMED)]
    eventually(lambda: (of_version() - before)[("+Inf",)], TIMED)
    buckets = of_version() - before
    for share, measured in ((0.5, statistics.median(seconds)), (0.99, statistics.quantiles(seconds, n=100)[-1])):
        bound = next(bound for bound in SECONDS if buckets[(str(bound),)] >= share * TIMED)
        assert abs(bisect.bisect_left(SECONDS, measured) - SECONDS.index(bound)) <= 1


def test_a_request_waits_in_the_queue_while_the_worker_is_busy(exported: Exported) -> None:
    waited = partial(exported.sum, "classifier_queue_seconds_count", "version")
    before = waited()
    ask_all(exported, [Asked("tiny/1.0", jpeg(), "1.0")] * 100)
    eventually(lambda: (waited() - before)[("1.0",)], 100)
    assert exported.sum("classifier_queue_seconds_sum", "version")[("1.0",)] > 0


def test_grpc_is_counted_as_well(exported: Exported) -> None:
    requested = partial(exported.sum, "classifier_requests_total", "model", "version", "status", entrance="grpc")
    answered = partial(exported.sum, "classifier_answers_total", "version", "status", wants="prediction")
    before, before_answered = requested(), answered()
    with GrpcClient(exported.server.addresses) as client:
        client.predict(jpeg(), TINY, "2.0")
        with pytest.raises(RequestFailedError):
            client.predict(jpeg(), "none")
    eventually(lambda: (answered() - before_answered)[("2.0", "200")], 1)
    eventually(lambda: (requested() - before)[(TINY, "2.0", "0")], 1)
    assert sum((requested() - before).values()) == 2


def test_it_shows_what_torchserve_says_and_what_it_does_not(exported: Exported) -> None:
    ask_all(exported, [Asked("tiny/1.0", jpeg(), "1.0")])
    samples = exported.samples()
    names = {name for name, _ in samples}
    assert "ts_inference_requests_total" in names  # of the metrics port
    processes = workers(exported.server)
    memory = exported.sum("classifier_worker_memory_bytes", "version")
    assert set(memory) == {("1.0",), ("2.0",)}
    for process in processes:
        assert 1e6 < process.memory_info().rss < 10 * max(memory.values())
    assert exported.sum("classifier_workers_ready", "version") == {("1.0",): WORKERS, ("2.0",): WORKERS}
    assert exported.sum("classifier_default", "version") == {("1.0",): 1}
    assert exported.sum("classifier_worker_starts_total", "version") == {("1.0",): WORKERS, ("2.0",): WORKERS}
    assert exported.sum("classifier_archive_info", "version").total() == 2
    formats = exported.sum("classifier_pictures_total", "format")
    assert ("JPEG",) in formats


def test_a_worker_that_is_started_again_counts_on(exported: Exported) -> None:
    starts = partial(exported.sum, "classifier_worker_starts_total", "version")
    before, answered = starts(), exported.sum("classifier_answers_total")
    files = len(list((exported.state / METRICS).glob("*.db")))
    first, *_ = workers(exported.server)
    first.kill()
    exported.server.client().wait_ready([(TINY, "1.0"), (TINY, "2.0")], TIMEOUT_S, lambda: None)
    deadline = time.monotonic() + TIMEOUT_S
    while (starts() - before).total() != 1 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert (starts() - before).total() == 1
    exported.server.client().wait_ready([(TINY, "1.0"), (TINY, "2.0")], TIMEOUT_S, lambda: None)
    assert exported.sum("classifier_answers_total") == answered  # nothing is forgotten
    assert len(list((exported.state / METRICS).glob("*.db"))) == files


def test_load_balancers_get_the_truth_and_nobody_anything_else(exported: Exported) -> None:
    assert [(exported.page(path).status_code, exported.page(path).text) for path in ("/livez", "/readyz")] == [
        (200, "alive\n"),
        (200, "ready\n"),
    ]
    for path in ("/", "/models", "/metrics/x", "/../config.properties", "/readyz/"):
        assert exported.page(path).status_code == 404
    assert requests.post(f"{exported.server.addresses.exporter}/metrics", timeout=TIMEOUT_S).status_code == 501


@pytest.fixture
def served(tiny_archive: Callable[..., Path], tmp_path: Path) -> Iterator[Exported]:
    """As `make serve` starts it, in the background."""
    archive = tiny_archive()
    state = tmp_path / "state"
    options = (f"STATE={state}", f"STORE={archive.parent}", f"MODELS={archive.name}", "PORTS=free")
    result = make("serve", *options)
    try:
        assert result.returncode == 0, result.stderr
        server = find(state)
        assert server is not None
        assert f"metrics     {server.addresses.exporter}/metrics" in result.stdout
        yield Exported(server, state)
    finally:
        make("stop", f"STATE={state}")


def exporters(state: Path) -> list[psutil.Process]:
    """The processes of exporters of a state folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "scripts.exporter.beside" in words and str(state) in words:
            found.append(process)
    return found


def gone(state: Path) -> bool:
    deadline = time.monotonic() + LAG_S
    while exporters(state) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not exporters(state)


def test_make_serve_starts_it_and_make_stop_ends_it(served: Exported) -> None:
    assert served.page("/readyz").text == "ready\n"
    ask_all(served, [Asked("tiny/1.0", jpeg(), "1.0")] * 8)
    assert served.sum("classifier_answers_total", "status", wants="prediction") == {("200",): 8}
    assert len(exporters(served.state)) == 1
    assert make("stop", f"STATE={served.state}").returncode == 0
    assert exporters(served.state) == []
    assert list(served.state.glob("exporter*")) == []


def test_a_server_stays_when_nobody_reads_on_what_make_serve_prints(
    tiny_archive: Callable[..., Path], tmp_path: Path
) -> None:
    archive, state = tiny_archive(), tmp_path / "state"
    options = [f"--state={state}", f"--store={archive.parent}", f"--models={archive.name}", "--ports=free"]
    command = [sys.executable, "-m", "scripts.command_line", "serve", *options]
    try:
        with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()  # as `| head -1` does
            assert (process.wait(), b"Broken" in process.stderr.read()) == (0, False)
        server = find(state)
        assert server is not None
        assert Exported(server, state).page("/readyz").text == "ready\n"
    finally:
        make("stop", f"STATE={state}")


def test_it_ends_with_a_server_that_was_killed(served: Exported) -> None:
    front_end(served.server).kill()
    assert gone(served.state)


def test_a_server_whose_exporter_was_killed_answers_on_and_stops(served: Exported) -> None:
    (exporter,) = exporters(served.state)
    exporter.kill()
    exporter.wait()
    assert [item.status for item in ask_all(served, [Asked("tiny/1.0", jpeg(), "1.0")] * 4)] == [200] * 4
    assert make("stop", f"STATE={served.state}").returncode == 0


def test_it_refuses_to_take_a_port_that_somebody_has(tiny_archive: Callable[..., Path], tmp_path: Path) -> None:
    archive = tiny_archive()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = with_free_ports(read_config(CHECKOUT / "config.properties"))
        config[EXPORTER] = f"http://127.0.0.1:{taken.getsockname()[1]}"
        write_config(config, tmp_path / "config.properties")
        options = (f"STATE={tmp_path / 'state'}", f"STORE={archive.parent}", f"MODELS={archive.name}")
        result = make("serve", *options, f"CONFIG={tmp_path / 'config.properties'}")
    assert result.returncode != 0
    assert "(exporter) is taken by" in result.stderr
