"""The container: its configuration, what it makes of its environment, its health check, its build context."""

import os
import runpy
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from scripts.admission.signing import create_keys, read_private_key, sign
from scripts.admission.verify import verify_store
from scripts.archives.store import sbom_of, signature_of
from scripts.console import UserError
from scripts.serving import container
from scripts.serving.container import STATE, form, log, models, settings
from scripts.shipping.image import build_arguments, engine, tag, write_context
from scripts.torchserve.config import addresses, read_config
from tests.certificates import self_signed
from tests.unit.conftest import Answer, FakeTorchServe, described

ROOT = Path(__file__).parents[4]
CONFIG = read_config(ROOT / "docker" / "config.properties")
READY = ROOT / "docker" / "bin" / "ready"


def test_it_differs_from_development_in_what_it_says_and_nothing_else() -> None:
    development = read_config(ROOT / "config.properties")
    differing = {key for key in CONFIG.keys() | development.keys() if CONFIG.get(key) != development.get(key)}
    assert differing == {
        "inference_address", "metrics_address", "grpc_inference_address", "exporter_address",
        "disable_token_authorization", "token_expiration_min", "model_store", "enable_model_api",
    }  # fmt: skip
    assert addresses(CONFIG).ports() == addresses(development).ports()


def test_tokens_are_on_and_management_is_not_reached_unless_asked_otherwise() -> None:
    found = settings(CONFIG, {})
    assert (found["disable_token_authorization"], found["enable_model_api"]) == ("false", "false")
    assert found["management_address"].startswith("http://127.0.0.1:")
    assert found["grpc_management_address"] == "127.0.0.1"
    assert settings(CONFIG, {"TOKENS": "off"}).items() >= {"disable_token_authorization": "true"}.items()


def test_management_can_be_opened_with_tokens_only() -> None:
    found = settings(CONFIG, {"MANAGEMENT": "open"})
    assert (found["management_address"], found["enable_model_api"]) == ("http://0.0.0.0:8081", "true")
    assert found.items() >= {"disable_token_authorization": "false"}.items()
    with pytest.raises(UserError, match="needs TOKENS=on"):
        settings(CONFIG, {"MANAGEMENT": "open", "TOKENS": "off"})


def test_the_form_of_the_answers_is_the_recipes_unless_the_environment_says_otherwise() -> None:
    assert [form({}), form({"ANSWERS": "stock"}), form({"ANSWERS": "full"})] == ["recipe", "stock", "full"]
    with pytest.raises(UserError, match="ANSWERS=short: expected recipe, full or stock"):
        form({"ANSWERS": "short"})


def test_requests_are_logged_only_where_the_environment_says_so() -> None:
    assert [log({}), log({"LOG": "json"}), log({"LOG": "text"})] == ["off", "json", "text"]
    with pytest.raises(UserError, match="LOG=xml: expected text, json or off"):
        log({"LOG": "xml"})


@pytest.mark.parametrize("variables", [{"TOKENS": "yes"}, {"MANAGEMENT": "everywhere"}, {"TOKENS": ""}])
def test_other_values_are_refused(variables: dict[str, str]) -> None:
    ((name, value),) = variables.items()
    with pytest.raises(UserError, match=f"{name}={value}: expected"):
        settings(CONFIG, variables)


def test_it_serves_what_it_is_told_or_all_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no archive"):
        models(tmp_path, {})
    for name in ("b.mar", "a.tar.gz", "notes.txt", ".a.mar.settings"):
        (tmp_path / name).touch()
    assert models(tmp_path, {}) == "a.tar.gz b.mar"
    assert models(tmp_path, {"MODELS": "b"}) == "b"
    for name in ("tiny-eager-1.9.mar", "tiny-eager-1.10.mar"):
        (tmp_path / name).touch()
    assert models(tmp_path, {}) == "a.tar.gz b.mar tiny-eager-1.10.mar"


def test_every_archive_of_a_folder_is_verified(tiny_archive: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no archive"):
        verify_store(tmp_path)
    good = tiny_archive("eager")
    (tmp_path / "good.mar").write_bytes(good.read_bytes())
    assert [path.name for path in verify_store(tmp_path)] == ["good.mar"]
    content = bytearray(good.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "harmed.mar").write_bytes(content)
    with pytest.raises(UserError, match=r"harmed\.mar"):
        verify_store(tmp_path)


@pytest.mark.slow
def test_with_a_public_key_archives_of_a_folder_must_be_signed(
    tiny_archive: Callable[..., Path], tmp_path: Path
) -> None:
    keys, store = tmp_path / "keys", tmp_path / "store"
    store.mkdir()
    archive = Path(shutil.copy(tiny_archive("eager"), store))
    trusted = create_keys(keys, None)
    verify = ROOT / "docker" / "bin" / "verify"
    program = verify.read_text().replace("/opt/classifier/venv/bin/python", sys.executable)
    program = program.replace("/opt/classifier/app", f"{ROOT}:{ROOT / 'handlers'}")

    def run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        command = ["/bin/sh", "-c", program, "verify", str(store)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert run({}).stdout == f"✓ {archive.name} is unchanged since it was built\n"
    unsigned = run({"PUBLIC_KEY": str(trusted)})
    assert unsigned.returncode == 1
    assert "not signed" in unsigned.stderr
    sign(archive, read_private_key(keys / "private.pem", None))
    assert run({"PUBLIC_KEY": str(trusted)}).stdout == f"✓ {archive.name} is unchanged since it was built and signed\n"
    for mistake in ("", str(tmp_path / "missing.pem")):
        assert "error: PUBLIC_KEY" in run({"PUBLIC_KEY": mistake}).stderr


def test_the_container_serves_with_the_key_that_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    (tmp_path / "a.mar").touch()
    monkeypatch.setattr(container, "serve", lambda *arguments, **options: asked.update(options))
    monkeypatch.setattr(container, "STATE", tmp_path)
    monkeypatch.setattr(container, "read_config", lambda _: CONFIG | {"model_store": str(tmp_path)})
    for value, expected in (("/keys/public.pem", Path("/keys/public.pem")), (None, None)):
        monkeypatch.delenv("PUBLIC_KEY", raising=False)
        if value is not None:
            monkeypatch.setenv("PUBLIC_KEY", value)
        container.main()
        assert asked["public_key"] == expected
    monkeypatch.setenv("PUBLIC_KEY", "")
    with pytest.raises(UserError, match="PUBLIC_KEY is empty"):
        container.main()


def test_two_archives_of_one_file_name_do_not_become_one_in_the_image(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"two archives have the same file name \(x\.mar, x\.mar\)"):
        write_context(tmp_path, [Path("old/x.mar"), Path("new/x.mar")])
    assert list(tmp_path.iterdir()) == []


def test_the_build_context_has_the_archives_and_nothing_that_is_not_copied(
    tiny_archive: Callable[..., Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    archive = Path(shutil.copy(tiny_archive("eager"), tmp_path_factory.mktemp("store")))
    for beside in (signature_of(archive), sbom_of(archive)):
        beside.touch()
    write_context(tmp_path, [archive])
    assert {path.name for path in tmp_path.iterdir()} == {
        "Dockerfile", "config.properties", "requirements.txt", "bin", "app", "archives"
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "archives").iterdir()} == {
        archive.name, f"{archive.name}.sig", f"{archive.name}.cdx.json"
    }  # fmt: skip
    assert not list(tmp_path.rglob("__pycache__"))
    assert {path.name for path in (tmp_path / "bin").iterdir() if os.access(path, os.X_OK)} == {"ready", "verify"}


def test_torch_comes_with_cuda_for_gpus_only() -> None:
    assert build_arguments(gpu=False, torch_index=None)["TORCH_INDEX"].endswith("/cpu")
    assert build_arguments(gpu=True, torch_index=None)["TORCH_INDEX"] == ""
    assert build_arguments(gpu=False, torch_index="")["TORCH_INDEX"] == ""
    assert (tag(gpu=False), tag(gpu=True)) == (
        "torchserve-image-classifier:0.1.0",
        "torchserve-image-classifier:0.1.0-gpu",
    )


def fake(folder: Path, name: str, code: int) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\nexit {code}\n")
    program.chmod(0o755)


def test_an_engine_that_works_builds_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="none of docker, podman, buildah works here"):
        engine()
    fake(tmp_path, "docker", 1)  # the client, without a daemon
    fake(tmp_path, "buildah", 0)
    assert engine()[0] == "buildah"
    fake(tmp_path, "docker", 0)
    assert engine()[0] == "docker"


@pytest.fixture
def state(tmp_path: Path, torchserve: FakeTorchServe) -> Path:
    """The state folder of a server with tokens, played by the fake one."""
    key_file = tmp_path / "key_file.json"
    key_file.write_text('{"management": {"key": "secret"}}')
    server = msgspec.structs.replace(torchserve.server, models=[("tiny", "1.0")], key_file=str(key_file))
    (tmp_path / "server.json").write_bytes(msgspec.json.encode(server))
    return tmp_path


def ready(state: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    program = runpy.run_path(str(READY))
    monkeypatch.setitem(program["main"].__globals__, "STATE", state)
    code: int = program["main"]()
    return code


def registered(default: dict[str, Any], *others: dict[str, Any]) -> dict[str, list[Answer]]:
    """What TorchServe says when tiny has these versions, whose workers' processes exist."""
    for worker in default["workers"]:
        worker["pid"] = os.getpid()
    return {
        "GET /models?next_page_token=0": [Answer({"models": [{"modelName": "tiny"}]})],
        "GET /models/tiny": [Answer([default])],
        "GET /models/tiny/all": [Answer([default, *others])],
    }


@pytest.mark.parametrize(("workers", "minimum", "code"), [
    (["READY"], 1, 0), (["READY", "READY"], 2, 0),
    (["READY"], 2, 1), (["READY", "UNLOADING"], 2, 1), ([], 0, 1), ([], 1, 1),
])  # fmt: skip
def test_ready_is_every_worker_of_every_model(
    workers: list[str],
    minimum: int,
    code: int,
    state: Path,
    torchserve: FakeTorchServe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torchserve.answers = registered(described("1.0", *workers, minimum=minimum))
    assert ready(state, monkeypatch) == code
    assert torchserve.asked[0].headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(("others", "code"), [
    ([], 0),  # the version of the start, 1.0, was unregistered
    ([described("1.0", "UNLOADING")], 1),  # it is still there, and clients may name it
    ([described("1.0", minimum=0)], 0),  # it was scaled to no workers
    ([described("3.0", "UNLOADING")], 0),  # one more is being registered, and the others answer meanwhile
])  # fmt: skip
def test_ready_follows_what_is_registered(
    others: list[dict[str, Any]],
    code: int,
    state: Path,
    torchserve: FakeTorchServe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torchserve.answers = registered(described("2.0", "READY"), *others)
    assert ready(state, monkeypatch) == code


def test_not_ready_says_why(
    state: Path, torchserve: FakeTorchServe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def says(answers: dict[str, list[Answer]]) -> str:
        torchserve.answers = answers
        assert ready(state, monkeypatch) == 1
        return capsys.readouterr().err

    assert "tiny 1.0: UNLOADING" in says(registered(described("1.0", "UNLOADING")))
    assert "401" in says({"GET /models?next_page_token=0": [Answer({"code": 401}, 401)]})
    assert "no model is registered" in says({"GET /models?next_page_token=0": [Answer({"models": []})]})
    gone = registered(described("1.0", "READY"))
    gone["GET /models/tiny/all"] = [Answer([described("1.0", "READY")])]
    assert "tiny 1.0: READY without a process" in says(gone)
    (state / "server.json").unlink()
    assert "server.json" in says({})


def test_ready_asks_an_encrypted_server_and_no_other_in_its_place(
    state: Path, torchserve: FakeTorchServe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torchserve.answers = registered(described("1.0", "READY"))
    files = self_signed(state, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(state / files["certificate_file"], state / files["private_key_file"])
    with ThreadingHTTPServer(("127.0.0.1", 0), torchserve.handler()) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            torchserve.address = f"https://127.0.0.1:{server.server_port}"
            own, other = str(state / files["certificate_file"]), None  # None: known authorities
            codes = []
            for certificate in (own, other):
                recorded = msgspec.structs.replace(torchserve.server, models=[("tiny", "1.0")], certificate=certificate)
                (state / "server.json").write_bytes(msgspec.json.encode(recorded))
                codes.append(ready(state, monkeypatch))
        finally:
            server.shutdown()
    assert codes == [0, 1]
    assert "certificate verify failed" in capsys.readouterr().err


def test_programs_and_compose_name_the_image_and_its_folder_as_they_are() -> None:
    assert runpy.run_path(str(READY))["STATE"] == STATE
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    for service, gpu in (("classifier", False), ("classifier-gpu", True)):
        name, _, default = compose[service]["image"].partition(":${TAG:-")
        assert f"{name}:{default.removesuffix('}')}" == tag(gpu)
        assert str(STATE) in compose[service]["tmpfs"]


def test_ready_needs_pythons_own_library_only() -> None:
    lines = [
        line.split()[1].partition(".")[0]
        for line in READY.read_text().splitlines()
        if line.startswith(("import", "from"))
    ]
    assert set(lines) <= set(sys.stdlib_module_names)
