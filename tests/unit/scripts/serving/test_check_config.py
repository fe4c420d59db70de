"""`make check-config`: what it says of the project's own configurations, and of every mistake planted in one."""

import importlib.util
import io
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from scripts.building.build import build
from scripts.building.options import Options
from scripts.console import UserError
from scripts.serving.container import settings as container_settings
from scripts.torchserve.config import CONFIG_FILE, EXPORTER, read_config, write_config
from scripts.torchserve.config_check import check, verdict
from scripts.torchserve.config_rules import RULES, findings
from scripts.torchserve.config_settings import KNOWN, Finding, Settings
from tests.conftest import TINY_RECIPE

ROOT = Path(__file__).parents[4]
DEVELOPMENT, PRODUCTION = ROOT / CONFIG_FILE, ROOT / "docker" / CONFIG_FILE
CORES = 2
EVERYWHERE = "http://0.0.0.0"


def found(config: dict[str, str]) -> list[Finding]:
    return findings(Settings(config, CORES))


# (what is planted into the production configuration; None takes a line away, what must be said of which setting)
PLANTED: list[tuple[dict[str, str | None], str, str]] = [
    ({"allowed_urls": None}, "danger", "allowed_urls"),
    ({"allowed_urls": "https://.*"}, "danger", "allowed_urls"),
    ({"allowed_urls": "https://models.ours.example/.*,file://.*"}, "danger", "allowed_urls"),
    ({"allowed_urls": "https://bucket.s3.amazonaws.com/.*"}, "danger", "allowed_urls"),
    ({"allowed_urls": "(unclosed"}, "danger", "allowed_urls"),
    ({"disable_token_authorization": "true"}, "danger", "inference_address"),
    ({"disable_token_authorization": "True"}, "danger", "metrics_address"),
    (
        {"management_address": f"{EVERYWHERE}:8081", "disable_token_authorization": "true"},
        "danger",
        "management_address",
    ),
    (
        {"grpc_management_address": "::", "disable_token_authorization": "true"},
        "danger",
        "management_address",
    ),
    ({"management_address": "http://10.0.0.7:8081"}, "loosened", "management_address"),
    ({"management_address": "http://server.example:8081"}, "loosened", "management_address"),
    ({"management_address": f"{EVERYWHERE}:8080"}, "danger", "management_address"),
    ({"enable_model_api": "true"}, "loosened", "enable_model_api"),
    ({"token_expiration_min": None}, "note", "token_expiration_min"),
    ({"cors_allowed_origin": "*"}, "danger", "cors_allowed_origin"),
    ({"keystore": "keys.p12", "keystore_pass": "changeit"}, "danger", "keystore_pass"),
    ({"keystore": "keys.p12"}, "danger", "keystore_pass"),
    ({"install_py_dep_per_model": "true"}, "danger", "install_py_dep_per_model"),
    ({"load_models": "all"}, "loosened", "load_models"),
    ({"vmargs": "-agentlib:jdwp=transport=dt_socket,server=y,address=*:5005"}, "danger", "vmargs"),
    ({"enable_envvars_config": "true"}, "loosened", "enable_envvars_config"),
    ({"use_env_allowed_urls": "true"}, "loosened", "use_env_allowed_urls"),
    ({"model_store": "/tmp/no such models"}, "danger", "model_store"),  # noqa: S108
    ({"max_request_size": "1000000000"}, "danger", "max_request_size"),
    ({"max_response_size": "1000000000"}, "danger", "max_response_size"),
    ({"limit_max_image_pixels": "false"}, "danger", "limit_max_image_pixels"),
    ({"job_queue_size": "2"}, "trouble", "job_queue_size"),
    ({"job_queue_size": "100000"}, "trouble", "job_queue_size"),
    ({"job_queue_size": "many"}, "trouble", "job_queue_size"),
    ({"default_response_timeout": "3600"}, "trouble", "default_response_timeout"),
    ({"default_response_timeout": "0"}, "trouble", "default_response_timeout"),
    ({"max_request_size": "-1"}, "trouble", "max_request_size"),
    ({"netty_client_threads": "-1"}, "trouble", "netty_client_threads"),
    ({"models": '{"a": {"1.0": {"minWorkers": -1}}}'}, "trouble", "models"),
    ({"models": '{"a": {"1.0": {"minWorkers": 1, "batchSize": 0}}}'}, "trouble", "models"),
    ({"default_workers_per_model": None}, "trouble", "default_workers_per_model"),
    ({"default_workers_per_model": "16"}, "trouble", "default_workers_per_model"),
    ({"models": '{"a": {"1.0": {"minWorkers": 2}}, "b": {"1.0": {"minWorkers": 1}}}'}, "trouble", "models"),
    ({"models": "{"}, "trouble", "models"),
    ({"number_of_netty_threads": "64"}, "trouble", "number_of_netty_threads"),
    ({"netty_client_threads": "64"}, "trouble", "netty_client_threads"),
    ({"metrics_mode": None}, "trouble", "metrics_mode"),
    ({"metrics_mode": "log"}, "trouble", "metrics_mode"),
    ({"enable_metrics_api": "false"}, "trouble", "enable_metrics_api"),
    ({"debug": "true"}, "trouble", "debug"),
    ({"decode_input_request": None}, "trouble", "decode_input_request"),
    ({"inference_address": "http://[::1]:8080"}, "trouble", "inference_address"),
    ({"inference_address": "http://[::]:8080"}, "trouble", "inference_address"),
    ({"management_address": "127.0.0.1:8081"}, "trouble", "management_address"),
    ({"metrics_address": "http://127.0.0.1:65535"}, "trouble", "metrics_address"),
    ({"metrics_address": "http://127.0.0.1:8082/metrics"}, "trouble", "metrics_address"),
    ({"inference_address": "https://0.0.0.0:8443"}, "trouble", "inference_address"),
    ({"inference_address": "https://0.0.0.0:8443", "certificate_file": __file__}, "trouble", "inference_address"),
    ({"enable_grpc_ssl": "true"}, "trouble", "enable_grpc_ssl"),
    (
        {"inference_address": "https://0.0.0.0:8443", "certificate_file": "no.pem", "private_key_file": __file__},
        "trouble",
        "certificate_file",
    ),
    ({"service_envelope": "kserve"}, "trouble", "service_envelope"),
    ({"service_envelope": "kservev2"}, "trouble", "service_envelope"),
    ({"service_envelope": "json"}, "trouble", "service_envelope"),
    ({"job_queue_sise": "96"}, "trouble", "job_queue_sise"),
    ({"allowed_url": "none"}, "trouble", "allowed_url"),
]


def planted(changes: dict[str, str | None]) -> dict[str, str]:
    config = {**read_config(PRODUCTION), **changes}
    return {name: value for name, value in config.items() if value is not None}


@pytest.mark.parametrize(("changes", "level", "setting"), PLANTED, ids=lambda value: str(value)[:60])
def test_every_planted_mistake_is_found(changes: dict[str, str | None], level: str, setting: str) -> None:
    before = set(found(read_config(PRODUCTION)))
    new = [finding for finding in found(planted(changes)) if finding not in before]
    assert (level, setting) in {(finding.level, finding.setting) for finding in new}
    if level in ("danger", "trouble", "loosened"):
        assert verdict(new, production=True) is not None


def test_every_rule_is_planted_at_least_once() -> None:
    silent = set(RULES)
    clean = Settings(read_config(PRODUCTION), CORES)
    for changes, _, _ in PLANTED:
        settings = Settings(planted(changes), CORES)
        silent -= {rule for rule in silent if list(rule(settings)) != list(rule(clean))}
    assert silent == set()


@pytest.mark.parametrize("address", ["https://server.example:8443", "HTTP://10.0.0.7", "unix:/run/serve.sock"])
def test_addresses_that_torchserve_understands_are_no_trouble(address: str) -> None:
    files = {"certificate_file": __file__, "private_key_file": __file__}
    config = read_config(PRODUCTION) | {"inference_address": address} | files
    troubled = [item for item in found(config) if item.level == "trouble"]
    assert troubled == []


def test_files_of_tls_are_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    names = {"certificate_file": "own.pem", "private_key_file": "own.key"}
    for name in names.values():
        (tmp_path / name).touch()
    write_config(read_config(PRODUCTION) | {"inference_address": "https://0.0.0.0:8443"} | names, tmp_path / "ours")
    assert {finding.level for _, finding in check(tmp_path / "ours", CORES)} == {"note"}


def test_nothing_said_is_torchserve_as_it_comes_and_that_is_dangerous() -> None:
    levels = {(finding.level, finding.setting) for finding in found({})}
    expected = {("trouble", "metrics_mode"), ("trouble", "default_workers_per_model"), ("danger", "allowed_urls")}
    assert expected <= levels
    assert found({})[0].level == "danger"


def test_the_image_passes_for_production() -> None:
    assert {finding.level for _, finding in check(PRODUCTION, CORES)} == {"note"}
    assert verdict([finding for _, finding in check(PRODUCTION, CORES)], production=True) is None


def test_grpc_on_loopback_is_no_note() -> None:
    noted = {finding.setting for finding in found(read_config(PRODUCTION))}
    assert noted - {finding.setting for finding in found(planted({"grpc_inference_address": None}))} == {
        "grpc_inference_address"
    }


def test_what_the_images_variables_loosen_is_said() -> None:
    config = read_config(PRODUCTION)
    management = found(container_settings(config, {"MANAGEMENT": "open"}))
    assert [finding.setting for finding in management if finding.level == "loosened"] == [
        "management_address",
        "enable_model_api",
    ]
    no_tokens = found(container_settings(config, {"TOKENS": "off"}))
    assert {finding.setting for finding in no_tokens if finding.level == "danger"} == {
        "inference_address",
        "metrics_address",
    }


def test_development_passes_with_its_loosened_lines_listed_and_not_for_production() -> None:
    listed = [(line, finding) for line, finding in check(DEVELOPMENT, CORES)]
    lines = DEVELOPMENT.read_text().splitlines()
    assert {finding.level for _, finding in listed} == {"loosened"}
    assert {lines[line - 1] for line, _ in listed if line is not None} == {
        "disable_token_authorization=true",
        "enable_model_api=true",
    }
    assert verdict([finding for _, finding in listed], production=False) is None
    assert verdict([finding for _, finding in listed], production=True) == (
        "2 x loosened, which production must not have"
    )


def test_a_setting_that_is_said_twice_is_found_with_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "config.properties"
    write_config(read_config(PRODUCTION), path)
    lines = len(path.read_text().splitlines())
    path.write_text(path.read_text() + "job_queue_size=50\n")
    (said,) = [(line, finding) for line, finding in check(path, CORES) if finding.level == "trouble"]
    assert said[0] == lines + 1
    assert "already" in said[1].text


@pytest.mark.slow
@pytest.mark.parametrize(("cores", "expected"), [(2, True), (64, False)])
def test_an_archive_that_was_tuned_for_a_larger_machine_is_found(tmp_path: Path, cores: int, expected: bool) -> None:
    recipe = yaml.safe_load(TINY_RECIPE.read_text())
    recipe["serving"] |= {"workers": 2, "threads": 16}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    for path in TINY_RECIPE.parent.glob("*.json"):
        shutil.copy(path, tmp_path)
    build(Options(recipe=tmp_path / "tiny.yaml", store=tmp_path / "store", cache=tmp_path / "cache"))
    texts = of_store(tmp_path / "store", tmp_path, cores)
    assert any("2 x 16 threads" in text for text in texts) == expected


def test_an_archive_of_somebody_else_is_found(tmp_path: Path, tiny_archive: Callable[..., Path]) -> None:
    store = tmp_path / "store"
    store.mkdir()
    shutil.copy(tiny_archive(), store)
    assert of_store(store, tmp_path, CORES) == []
    (store / "stock.mar").write_bytes(b"PK")
    assert "stock.mar" in of_store(store, tmp_path, CORES)[0]


def test_a_store_that_everybody_may_write_to_is_found(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o777)
    assert "chmod o-w" in of_store(tmp_path / "store", tmp_path, CORES)[0]


def of_store(store: Path, folder: Path, cores: int) -> list[str]:
    path = folder / "config.properties"
    write_config(read_config(PRODUCTION) | {"model_store": str(store)}, path)
    return [finding.text for _, finding in check(path, cores) if finding.setting == "model_store"]


def test_the_known_settings_are_torchserves() -> None:
    ours = {*read_config(DEVELOPMENT), *read_config(PRODUCTION)} - {EXPORTER}
    assert {*ours, "models", "vmargs", "debug"} <= KNOWN
    assert not {"init", "equals", "model_stores"} & KNOWN


def test_the_known_settings_are_those_of_the_installed_torchserve() -> None:
    """Its front end has a constant for each; its launcher reads a few of the same file."""
    spec = importlib.util.find_spec("ts")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    with zipfile.ZipFile(package / "frontend" / "model-server.jar") as jar:
        constants = text_constants(jar.read("org/pytorch/serve/util/ConfigManager.class"))
    front_end = {
        text
        for name, text in constants.items()
        if re.fullmatch("[a-z_]+", text) and not name.startswith("DEFAULT_") and name != "METRIC_FORMAT_PROMETHEUS"
    }
    launcher = set(re.findall(r'props\.get\("([a-z_]+)"', (package / "model_server.py").read_text()))
    assert front_end | launcher == KNOWN


# The bytes of each kind of constant after its tag, text (1) apart (The Java Virtual Machine Specification, 4.4).
CONSTANT_BYTES = {
    3: 4,
    4: 4,
    5: 8,
    6: 8,
    7: 2,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 4,
    15: 3,
    16: 2,
    17: 4,
    18: 4,
    19: 2,
    20: 2,
}
TEXT, LONG, DOUBLE, STRING = 1, 5, 6, 8


def text_constants(class_file: bytes) -> dict[str, str]:
    """The fields of a Java class file whose value is a constant text, by name (the specification's 4.1, 4.5, 4.7.2)."""
    stream = io.BytesIO(class_file)

    def numbers(layout: str) -> tuple[int, ...]:
        return struct.unpack(f">{layout}", stream.read(struct.calcsize(f">{layout}")))

    *_, count = numbers("IHHH")  # magic, version
    texts: dict[int, str] = {}
    strings: dict[int, int] = {}  # where the text of each is
    index = 1
    while index < count:
        (tag,) = numbers("B")
        if tag == TEXT:
            texts[index] = stream.read(*numbers("H")).decode()
        elif tag == STRING:
            (strings[index],) = numbers("H")
        else:
            stream.read(CONSTANT_BYTES[tag])
        index += 2 if tag in (LONG, DOUBLE) else 1
    *_, interfaces = numbers("HHHH")  # flags, this class, the one above
    stream.read(2 * interfaces)
    found: dict[str, str] = {}
    for _ in range(*numbers("H")):
        _, name, _, attributes = numbers("HHHH")
        for _ in range(attributes):
            attribute, length = numbers("HI")
            value = int.from_bytes(stream.read(length))
            if texts[attribute] == "ConstantValue" and value in strings:
                found[texts[name]] = texts[strings[value]]
    return found


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nope\.properties"):
        check(tmp_path / "nope.properties", CORES)
