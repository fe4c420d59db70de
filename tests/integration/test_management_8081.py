"""The management port, through the client and the programs that `make register` and the others run."""

import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
import yaml
from classifier.digests import write_digests

from scripts.building.build import build
from scripts.building.options import Options
from scripts.building.packing import write_archive
from scripts.console import UserError
from scripts.serving.manage import register
from scripts.torchserve.client import Client
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.server import CONSOLE_LOG, Server
from tests.integration.conftest import CHECKOUT, STORE, serving
from tests.integration.raw_http import wait_until

LITE0 = "efficientnet_lite0"
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, vgg16_archives: None) -> Path:
    """A model store of this module's own, to put broken archives into."""
    folder = tmp_path_factory.mktemp("store")
    for name in ("vgg16-eager-1.0", "vgg16-torchscript-2.0", f"{LITE0}-eager-1.0"):
        (folder / f"{name}.mar").symlink_to(STORE / f"{name}.mar")
    return folder


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def own_server(store: Path, state: Path) -> Iterator[Server]:
    with serving(state, "vgg16-eager", f"{LITE0}-eager", store=store) as server:
        yield server


@pytest.fixture(scope="module")
def manager(own_server: Server) -> Client:
    return Client(own_server.addresses)


def test_versions_lists_what_is_served_and_its_workers(manager: Client) -> None:
    versions = {(version.name, version.version): version for version in manager.versions()}
    assert versions.keys() == {("vgg16", "1.0"), (LITE0, "1.0")}
    assert all(version.ready and version.workers == ["READY"] for version in versions.values())


def test_describe_says_who_the_model_is(manager: Client) -> None:
    described = manager.describe(LITE0)["customizedMetadata"]
    assert described["model"] == {
        "name": LITE0,
        "version": "1.0",
        "runtime": "eager",
        "precision": "float32",
        "weights": "efficientnet-lite0-57934424",
    }
    assert described["weights_sha256"].startswith("57934424")
    assert described["classes"] == 1000
    assert described["input"]["crop"] == 224


def test_a_second_version_answers_after_register_and_default_and_agrees_with_the_first(
    manager: Client, store: Path, state: Path, cat: bytes
) -> None:
    first = manager.predict(cat, "vgg16")
    assert register(manager, store / "vgg16-torchscript-2.0.mar", state / CONSOLE_LOG) == ("vgg16", "2.0")
    assert manager.version("vgg16", "2.0").ready
    assert manager.predict(cat, "vgg16")["model"]["version"] == "1.0"  # registering alone changes no answer
    manager.set_default("vgg16", "2.0")
    second = manager.predict(cat, "vgg16")
    assert second["model"] == first["model"] | {"version": "2.0", "runtime": "torchscript"}
    assert second["class"] == first["class"]
    for old, new in zip(first["predictions"], second["predictions"], strict=True):
        assert new["class_id"] == old["class_id"]
        assert new["probability"] == pytest.approx(old["probability"], abs=1e-4)

    with pytest.raises(RequestFailedError, match="default version") as refused:
        manager.unregister("vgg16", "2.0")
    assert refused.value.status == 403
    manager.set_default("vgg16", "1.0")
    manager.unregister("vgg16", "2.0")
    assert [version.version for version in manager.versions("vgg16")] == ["1.0"]


def test_workers_scale_up_and_down(manager: Client) -> None:
    manager.scale(LITE0, 2)
    assert manager.version(LITE0, "1.0").workers == ["READY", "READY"]
    manager.scale(LITE0, 1)
    assert manager.version(LITE0, "1.0").workers == ["READY"]


def test_register_starts_as_many_workers_as_the_recipe_wants(manager: Client, state: Path, store: Path) -> None:
    recipe = yaml.safe_load((CHECKOUT / f"recipes/{LITE0}.yaml").read_text())
    recipe["name"] = "twin"
    recipe["serving"]["workers"] = 2
    (store.parent / "twin.yaml").write_text(yaml.safe_dump(recipe))
    archive, _ = build(Options(recipe=store.parent / "twin.yaml", store=store, cache=CHECKOUT / "weights"))
    register(manager, archive, state / CONSOLE_LOG)
    assert manager.version("twin", "1.0").workers == ["READY", "READY"]
    manager.unregister("twin", "1.0")


def test_the_same_version_twice_is_refused_and_the_first_stays(manager: Client, store: Path, state: Path) -> None:
    with pytest.raises(UserError, match="already registered"):
        register(manager, store / f"{LITE0}-eager-1.0.mar", state / CONSOLE_LOG)
    assert manager.version(LITE0, "1.0").ready


def tampered(source: Path, target: Path) -> Path:
    """The archive with one byte of its weights changed, and the zip's own checksums made right again."""
    with zipfile.ZipFile(source) as original, zipfile.ZipFile(target, "w") as copy:
        for info in original.infolist():
            content = bytearray(original.read(info))
            if info.filename.endswith(".pth"):
                content[len(content) // 2] ^= 1
            copy.writestr(info, bytes(content))
    return target


def flipped(source: Path, target: Path) -> Path:
    """The archive file with one byte changed."""
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    return target


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(tampered, f"{LITE0}.pth was changed after the archive was built"), (flipped, "Bad CRC-32")],
)
def test_register_refuses_an_archive_with_one_changed_byte(
    manager: Client, store: Path, state: Path, damage: Callable[[Path, Path], Path], reason: str
) -> None:
    broken = damage(STORE / f"{LITE0}-eager-1.0.mar", store / "changed.mar")
    with pytest.raises(UserError, match=re.escape(reason)) as refused:
        register(manager, broken, state / CONSOLE_LOG)
    assert "it is not registered" in str(refused.value)
    assert [version.version for version in manager.versions(LITE0)] == ["1.0"]


def test_a_worker_refuses_a_changed_archive_at_load_and_says_why(
    manager: Client, own_server: Server, store: Path, state: Path, cat: bytes
) -> None:
    """Registered past our own command, as a stranger would."""
    tampered(STORE / f"{LITE0}-eager-1.0.mar", store / "stranger.mar")
    parameters = {"url": "stranger.mar", "model_name": "stranger", "initial_workers": "1", "synchronous": "true"}
    response = requests.post(f"{own_server.addresses.management}/models", params=parameters, timeout=TIMEOUT_S)
    assert response.status_code == 500
    why = f"{LITE0}.pth was changed after the archive was built"
    wait_until(lambda: why in (state / CONSOLE_LOG).read_text(), f"the log does not say: {why}")  # answers come first
    with suppress(RequestFailedError):  # TorchServe takes it away itself, unless that meets the worker's next start
        manager.unregister("stranger")
    with pytest.raises(RequestFailedError) as gone:
        manager.versions("stranger")
    assert gone.value.status == 404
    assert manager.predict(cat, LITE0)["class"] == "n02124075 Egyptian cat"


def test_a_version_whose_worker_cannot_load_is_taken_away_again(
    manager: Client, store: Path, state: Path, cat: bytes
) -> None:
    """The digests are right, but the handler cannot work: what served before goes on serving."""
    recipe = yaml.safe_load((CHECKOUT / f"recipes/{LITE0}.yaml").read_text())
    recipe["archives"][0]["version"] = "9.0"
    (store.parent / "failing.yaml").write_text(yaml.safe_dump(recipe))
    options = Options(
        recipe=store.parent / "failing.yaml",
        archive_format="no-archive",
        store=store.parent / "failing",
        cache=CHECKOUT / "weights",
    )
    folder, _ = build(options)
    labels = (folder / "labels.json").read_text()
    (folder / "labels.json").write_text(labels.replace("class_id", "klass_id"))
    (folder / "digests.json").unlink()
    write_digests(folder)
    write_archive(folder, "zip-store", store / "failing.mar", LITE0)
    with pytest.raises(UserError, match=r"labels\.json") as refused:
        register(manager, store / "failing.mar", state / CONSOLE_LOG)
    assert "died while loading" in str(refused.value)
    assert [version.version for version in manager.versions(LITE0)] == ["1.0"]
    assert manager.predict(cat, LITE0)["model"]["version"] == "1.0"


def test_no_url_may_be_registered_not_even_a_local_one(own_server: Server) -> None:
    for url in (f"file://{STORE}/vgg16-torchscript-2.0.mar", "http://127.0.0.1:1/vgg16.mar", "../model_store/x.mar"):
        response = requests.post(f"{own_server.addresses.management}/models", params={"url": url}, timeout=TIMEOUT_S)
        assert 400 <= response.status_code < 500, url


def test_errors_of_the_server_are_readable(manager: Client) -> None:
    with pytest.raises(RequestFailedError, match="Model not found: nobody") as refused:
        manager.versions("nobody")
    assert refused.value.status == 404
