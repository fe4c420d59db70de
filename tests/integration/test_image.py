"""The container image: built from its Dockerfile, run as hard as it promises, asked, told to stop, and searched."""

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.archives.loaded import loaded
from scripts.archives.store import find_path
from scripts.building.golden import photograph
from scripts.shipping.image import version
from tests.integration.conftest import CHECKOUT, STORE
from tests.integration.container import ARCHIVE, Container, Podman

pytestmark = [pytest.mark.timeout(3000), pytest.mark.thorough]  # the first test builds the image


@pytest.fixture
def start(podman: Podman, image: str) -> Iterator[Callable[..., Container]]:
    """Start a container; removed with the test."""
    started: list[Container] = []

    def run(*options: str, command: tuple[str, ...] = ()) -> Container:
        started.append(Container(podman, image, *options, command=command))
        return started[-1]

    yield run
    for container in started:
        container.remove()


@pytest.fixture(scope="module")
def container(podman: Podman, image: str) -> Iterator[Container]:
    """One that is healthy, without tokens, for tests that change nothing in it."""
    running = Container(podman, image, "--env=TOKENS=off")
    running.wait_healthy()
    yield running
    running.remove()


ASK = """
import json, sys, urllib.error, urllib.request
def ask(url, headers={}, data=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
picture = open("/pictures/coffee.png", "rb").read()  # not the cat: int8 decides between its two breeds by processor
predictions = "http://127.0.0.1:8080/predictions/efficientnet_lite0"
octets = {"Content-Type": "application/octet-stream"}
"""


def test_a_photograph_is_classified_inside(container: Container) -> None:
    status, body = container.python(f"{ASK}\nprint(json.dumps(ask(predictions, octets, picture)))")
    answer = json.loads(body)
    assert status == 200
    assert answer["class"] == "n07920052 espresso"
    assert answer["model"]["precision"] == "int8"


def test_an_archive_with_a_package_of_its_own_and_a_requirement_is_served(
    start: Callable[..., Container], helped: Path
) -> None:
    container = start("--env=TOKENS=off", "--env=MODELS=helped-eager")
    container.wait_healthy()
    address = "predictions.replace('efficientnet_lite0', 'helped')"
    status, body = container.python(f"{ASK}\nprint(json.dumps(ask({address}, octets, picture)))")
    with loaded(helped) as classifier:
        (expected,) = classifier.classify([photograph("coffee.png").read_bytes()], [3])
    assert status == 200
    assert isinstance(expected, list)
    found = [(item["class_name"], item["probability"]) for item in json.loads(body)["predictions"]]
    assert [name for name, _ in found] == [item.class_name for item in expected]
    assert [share for _, share in found] == pytest.approx([item.probability for item in expected], abs=1e-4)


def test_a_bad_picture_is_a_problem_there_too(container: Container) -> None:
    status, body = container.python(f"{ASK}\nprint(json.dumps(ask(predictions, octets, picture[:3000])))")
    assert (status, json.loads(body)["code"]) == (422, "image_broken")


def test_it_runs_without_rights_and_writes_nowhere_else(container: Container) -> None:
    status = container.exec("cat", "/proc/self/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["10001"] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    for folder in ("/", "/opt/classifier/bin", "/models", "/etc/classifier", "/usr/bin"):
        assert "Read-only file system" in container.exec("touch", f"{folder}/x").stderr


def test_management_listens_on_loopback_and_the_others_do_not(container: Container) -> None:
    listening = container.python(
        """
import json
lines = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}").readlines()[1:]]
print(json.dumps([line[1].split(":") for line in lines if line[3] == "0A"]))"""
    )
    addresses = {int(port, 16): address for address, port in listening}
    for port in (8081, 7071):
        assert addresses[port][-8:] == "0100007F", port
    for port in (8080, 8082, 8083, 7070):
        assert int(addresses[port], 16) == 0, port


def test_its_metrics_are_there_for_prometheus(container: Container) -> None:
    for port, metric in ((8082, "ts_inference_requests_total"), (8083, "classifier_workers_ready")):
        status, body = container.python(f"{ASK}\nprint(json.dumps(ask('http://127.0.0.1:{port}/metrics')))")
        assert status == 200
        assert f"# TYPE {metric}" in body
    assert container.python(f"{ASK}\nprint(json.dumps(ask('http://127.0.0.1:8083/readyz')))") == [200, "ready\n"]


def test_the_memory_limit_holds(container: Container) -> None:
    """Eight at a time, for a while: nothing is killed, and what was used at most is below the limit."""
    found = container.python(
        f"""{ASK}
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    statuses = [status for status, _ in pool.map(lambda _: ask(predictions, octets, picture), range(100))]
print(json.dumps(sorted(set(statuses))))"""
    )
    assert found == [200]
    assert container.inspect("{{.HostConfig.Memory}}") == str(3 * 1024**3)
    assert container.inspect("{{.State.OOMKilled}}") == "false"
    used = container.exec("sh", "-c", "cat /sys/fs/cgroup/memory.peak /sys/fs/cgroup/memory/memory.max_usage_in_bytes")
    peaks = [int(line) for line in used.stdout.split()]
    assert peaks, used.stderr
    assert max(peaks) < 3 * 1024**3


def test_tokens_are_on_unless_told_otherwise(start: Callable[..., Container]) -> None:
    container = start()
    container.wait_healthy()  # so the health check has the token
    refused, accepted = container.python(
        f"""{ASK}
token = json.load(open("/var/lib/classifier/key_file.json"))["inference"]["key"]
with_token = octets | {{"Authorization": f"Bearer {{token}}"}}
print(json.dumps([ask(predictions, headers, picture)[0] for headers in (octets, with_token)]))"""
    )
    assert refused >= 400
    assert accepted == 200


def test_sigterm_under_load_ends_it_by_itself(start: Callable[..., Container], podman: Podman) -> None:
    container = start("--env=TOKENS=off")
    container.wait_healthy()
    load = f"{ASK}\nwhile True: ask(predictions, octets, picture)"
    assert podman("exec", "--detach", container.name, "/usr/bin/python3", "-c", load).returncode == 0
    podman("stop", "--time=60", container.name)  # then it would be killed, and the code 137
    assert container.wait_ended() == 143


def test_a_dead_server_ends_the_container(start: Callable[..., Container]) -> None:
    container = start("--env=TOKENS=off")
    container.wait_healthy()
    killed = container.python(
        """
import json, os, pathlib, signal
java = [int(path.parent.name) for path in pathlib.Path("/proc").glob("[0-9]*/comm") if path.read_text() == "java\\n"]
for pid in java:
    os.kill(pid, signal.SIGKILL)
print(json.dumps(len(java)))"""
    )
    assert killed == 1
    assert container.wait_ended() == 1
    assert "TorchServe ended by itself" in container.logs()


@pytest.mark.parametrize(("variables", "said"), [
    (["MODELS=no_such_model"], "no archive no_such_model in /models"),
    (["TOKENS=maybe"], "TOKENS=maybe: expected on or off"),
    (["MANAGEMENT=open", "TOKENS=off"], "MANAGEMENT=open needs TOKENS=on"),
])  # fmt: skip
def test_what_cannot_be_served_is_said_in_one_line(
    variables: list[str], said: str, start: Callable[..., Container]
) -> None:
    container = start(*(f"--env={variable}" for variable in variables))
    assert container.wait_ended() == 1
    assert said in container.logs()
    assert "Traceback" not in container.logs()


def test_the_archives_in_it_are_verified(container: Container) -> None:
    verified = container.exec("/opt/classifier/bin/verify", "/models")
    name = find_path(ARCHIVE, STORE).name
    assert (verified.returncode, f"{name} is unchanged since it was built" in verified.stdout) == (0, True)


def test_it_has_no_compiler_no_installer_and_nothing_of_the_checkout(podman: Podman, image: str) -> None:
    programs = "for name in gcc cc g++ c++ clang ld as make pip pip3 git; do command -v $name; done; true"
    found = podman("run", "--rm", "--network=none", "--entrypoint=sh", image, "-c", programs).stdout.split()
    assert found == []
    listed = podman("run", "--rm", "--network=none", "--entrypoint=ls", image, "/opt/classifier/app").stdout.split()
    assert set(listed) == {"classifier", "scripts"}


def test_its_labels_say_what_it_is(podman: Podman, image: str) -> None:
    labels = json.loads(podman("inspect", "--format", "{{json .Config.Labels}}", image).stdout)
    assert labels["org.opencontainers.image.version"] == version()
    assert labels["org.opencontainers.image.revision"] == "tested"


def test_nothing_of_the_machine_that_built_it_is_in_it(podman: Podman, image: str) -> None:
    settings = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False).stdout  # noqa: S607
    values = [word for line in settings.splitlines() for word in line.partition("=")[2].split()]
    needles = {str(CHECKOUT), socket.gethostname()} | {word.removeprefix("file://").strip("'\"/") for word in values}
    # shorter ones are words, and every Debian has its certificates there
    needles = {needle for needle in needles if len(needle) > 7 and not needle.startswith("etc/ssl/")}
    assert str(CHECKOUT) in needles
    mounted = podman("image", "mount", image)
    assert mounted.returncode == 0, mounted.stderr
    patterns = [argument for needle in sorted(needles) for argument in ("-e", needle)]
    command = ["grep", "-rlF", *patterns, mounted.stdout.strip()]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    podman("image", "unmount", image)
    assert (found.returncode, found.stdout) == (1, ""), found.stdout[:2000]
