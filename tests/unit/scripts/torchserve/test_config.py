import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.console import UserError
from scripts.torchserve.config import (
    CONFIG_FILE,
    EXPORTER,
    Addresses,
    addresses,
    read_config,
    saved_models,
    with_free_ports,
    write_config,
)
from scripts.torchserve.config_settings import KNOWN

ROOT = Path(__file__).parents[4]
OURS = read_config(ROOT / CONFIG_FILE)
LISTENS = sorted(key for key in OURS if key.endswith("_address"))

CONFIG = {
    "inference_address": "http://127.0.0.1:8080",
    "management_address": "http://127.0.0.1:8081",
    "metrics_address": "http://127.0.0.1:8082",
    "grpc_inference_address": "127.0.0.1",
    "grpc_inference_port": "7070",
    "grpc_management_address": "127.0.0.1",
    "grpc_management_port": "7071",
    "job_queue_size": "96",
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    config = CONFIG | {"model_snapshot": '{\n  "name": "x",\n  "models": {}\n}', "path": "/a folder/é=1:2#3"}
    write_config(config, tmp_path / "config.properties")
    assert read_config(tmp_path / "config.properties") == config


def test_a_written_configuration_carries_no_time(tmp_path: Path) -> None:
    write_config({"b": "2", "a": "1"}, tmp_path / "config.properties")
    assert (tmp_path / "config.properties").read_text() == "a=1\nb=2\n"


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nope\.properties: No such file"):
        read_config(tmp_path / "nope.properties")


def test_a_configuration_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.properties").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"config\.properties: not a text in UTF-8"):
        read_config(tmp_path / "config.properties")


def test_the_five_addresses_and_their_ports() -> None:
    found = addresses(CONFIG)
    assert found == Addresses(
        inference="http://127.0.0.1:8080",
        management="http://127.0.0.1:8081",
        metrics="http://127.0.0.1:8082",
        grpc_inference="127.0.0.1:7070",
        grpc_management="127.0.0.1:7071",
    )
    assert list(found.ports().values()) == [8080, 8081, 8082, 7070, 7071]


@pytest.mark.parametrize("key", [key for key in CONFIG if "address" in key or "port" in key])
def test_a_missing_address_is_named(key: str) -> None:
    with pytest.raises(UserError, match=f"has no {key}"):
        addresses({name: value for name, value in CONFIG.items() if name != key})


def test_free_ports_are_five_that_can_be_listened_on_and_all_else_stays() -> None:
    changed = with_free_ports(CONFIG)
    ports = addresses(changed).ports()
    assert len(set(ports.values())) == 5
    assert not set(ports.values()) & set(addresses(CONFIG).ports().values())
    for port in ports.values():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    without_ports = {key: re.sub(r"\d+$", "", changed[key]) for key in CONFIG if key != "job_queue_size"}
    assert without_ports == {key: re.sub(r"\d+$", "", CONFIG[key]) for key in without_ports}
    assert changed.keys() == CONFIG.keys()
    assert changed["job_queue_size"] == "96"


def snapshot(folder: Path, name: str, text: str | None) -> None:
    """A snapshot as TorchServe writes it; without a text, an empty file."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.cfg"
    path.touch() if text is None else write_config({"model_snapshot": text, "job_queue_size": "1"}, path)


def test_the_newest_snapshot_says_what_was_registered(tmp_path: Path) -> None:
    for time, model in ((2026_11_23_06, "old"), (2026_11_23_08, "newest"), (2026_11_23_07, "middle")):
        snapshot(tmp_path, f"{time}-snapshot", f'{{"models": {{"{model}": {{}}}}}}')
    assert saved_models(tmp_path.glob("*.cfg")) == '{"models": {"newest": {}}}'


def test_the_newest_snapshot_counts_also_when_it_names_no_model(tmp_path: Path) -> None:
    snapshot(tmp_path, "20261123064301268-startup", '{"models": {"vgg16": {}}}')
    snapshot(tmp_path, "20261123064301269-shutdown", '{"models": {}}')
    assert saved_models(tmp_path.glob("*.cfg")) is None


def test_no_snapshot_is_no_model() -> None:
    assert saved_models([]) is None


# A server that was killed may have left the newest one unfinished
@pytest.mark.parametrize("text", [None, '{"models": {"vgg', "{}"])
def test_a_snapshot_without_models_is_no_model(text: str | None, tmp_path: Path) -> None:
    snapshot(tmp_path, "20261123064301268-snapshot", text)
    assert saved_models(tmp_path.glob("*.cfg")) is None


@pytest.mark.parametrize("key", LISTENS)
def test_the_project_listens_on_loopback_only(key: str) -> None:
    host = OURS[key].removeprefix("http://").partition(":")[0]
    assert host == "127.0.0.1"


def test_the_project_says_all_five_addresses_and_the_exporters() -> None:
    assert len(LISTENS) == 6
    assert len(set(addresses(OURS).ports().values())) == 6


def test_no_url_can_be_registered() -> None:
    assert OURS["allowed_urls"] == "none"


def test_every_setting_has_its_reason_above_it() -> None:
    unexplained, explained = [], False
    for line in (ROOT / CONFIG_FILE).read_text().splitlines():
        if not line.strip():
            explained = False
        elif line.startswith("#"):
            explained = explained or not line.startswith("# ---") or ": " in line  # a bare heading is no reason
        elif not explained:
            unexplained.append(line)
    assert unexplained == []


def test_every_setting_is_one_that_the_installed_torchserve_knows() -> None:
    assert OURS.keys() - {EXPORTER} <= KNOWN  # a misspelt one would be ignored silently


def test_the_launcher_reads_what_java_reads(tmp_path: Path) -> None:
    """TorchServe's launcher, in Python, knows nothing of escapes."""
    path = tmp_path / "config.properties"
    write_config({"vmargs": "-XX:+UseSerialGC -Da=b", "inference_address": "http://127.0.0.1:1", "tail": r"a\:b"}, path)
    code = f"from ts.model_server import load_properties; print(load_properties({str(path)!r})['vmargs'])"
    launcher = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert launcher.stdout == "-XX:+UseSerialGC -Da=b\n"
    assert read_config(path) == {
        "vmargs": "-XX:+UseSerialGC -Da=b",
        "inference_address": "http://127.0.0.1:1",
        "tail": r"a\:b",
    }


@pytest.mark.parametrize("key", [*(key for key in CONFIG if key.endswith("s_address")), "inference_address"])
def test_an_address_without_a_port_is_named(key: str) -> None:
    config = CONFIG | {key: "http://127.0.0.1"} if key in CONFIG else CONFIG
    with pytest.raises(UserError, match=rf"^{key}=http://127\.0\.0\.1: .* must end in its port$"):
        addresses(config)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:8083", "write http://<host>:<port>"),
        ("https://127.0.0.1:8083", "write http://<host>:<port>"),
        ("http://127.0.0.1", "write http://<host>:<port>"),
        ("http://127.0.0.1:8080", "inference has that port; give the exporter one of its own"),
        ("http://127.0.0.1:7071", "grpc_management has that port; give the exporter one of its own"),
    ],
)
def test_where_the_exporter_cannot_listen_is_refused_before_a_server_starts(address: str, why: str) -> None:
    with pytest.raises(UserError, match=f"^{EXPORTER}={address}: .*{why}"):
        addresses(CONFIG | {EXPORTER: address})
