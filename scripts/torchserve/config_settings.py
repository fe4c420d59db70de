"""The settings of TorchServe 0.12.0: their names, their defaults, how TorchServe reads their values, and findings."""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

# Every name that TorchServe's front end or launcher reads. 0.12.0 is the last release; a test compares the names with
# the installed TorchServe.
KNOWN: Final = frozenset(
    """
    allowed_urls async_logging blacklist_env_vars certificate_file cors_allowed_headers cors_allowed_methods
    cors_allowed_origin cpp_log_config cpu_launcher_args cpu_launcher_enable debug decode_input_request
    default_response_timeout default_service_handler default_startup_timeout default_workers_per_model
    disable_system_metrics disable_token_authorization enable_envvars_config enable_grpc_ssl enable_metrics_api
    enable_model_api grpc_inference_address grpc_inference_max_connection_age_grace_ms
    grpc_inference_max_connection_age_ms grpc_inference_port grpc_management_address
    grpc_management_max_connection_age_grace_ms grpc_management_max_connection_age_ms grpc_management_port
    inference_address initial_distribution_port initial_worker_port install_py_dep_per_model io_ratio ipex_enable
    ipex_gpu_enable job_queue_size keystore keystore_pass keystore_type limit_max_image_pixels load_models
    management_address max_request_size max_response_size metric_time_interval metrics_address metrics_config
    metrics_mode model_metrics_auto_detect model_server_home model_snapshot model_store models netty_client_threads
    number_of_gpu number_of_netty_threads plugins_path prefer_direct_buffer private_key_file python service_envelope
    system_metrics_cmd token_expiration_min ts_header_key_sequence_end ts_header_key_sequence_id
    ts_header_key_sequence_start ts_open_inference_protocol unregister_model_timeout use_env_allowed_urls
    use_native_io version vmargs workflow_store
    """.split()  # noqa: SIM905 - a list would be as many lines as names
)

APIS: Final = ("inference", "management", "metrics")
ENVELOPE: Final = "service_envelope"
NUMBER: Final = re.compile(r"-?[0-9]+")

# As in TorchServe's ConfigManager.
DEFAULTS: Final = {
    "inference_address": "http://127.0.0.1:8080",
    "management_address": "http://127.0.0.1:8081",
    "metrics_address": "http://127.0.0.1:8082",
    "grpc_inference_address": "127.0.0.1",
    "grpc_management_address": "127.0.0.1",
    "allowed_urls": "file://.*|http(s)?://.*",
    "default_workers_per_model": "0",
    "default_response_timeout": "120",
    "decode_input_request": "true",
    "enable_metrics_api": "true",
    "job_queue_size": "100",
    "limit_max_image_pixels": "true",
    "max_request_size": "6553500",
    "max_response_size": "6553500",
    "metrics_mode": "log",
    "netty_client_threads": "0",
    "number_of_netty_threads": "0",
    "token_expiration_min": "60",
}


# danger: an attacker can do harm. trouble: slow, without metrics, or against the HTTP contract. loosened: acceptable
# for development, where only programs of this machine reach the server. note: worth knowing.
Level = Literal["danger", "trouble", "loosened", "note"]


class Finding(msgspec.Struct, frozen=True):
    """One finding of a rule."""

    level: Level
    setting: str
    text: str  # why, and what to write instead


class Settings(msgspec.Struct, frozen=True):
    """A configuration as the rules see it: a setting that it does not have is at TorchServe's default."""

    said: Mapping[str, str]
    cores: int

    def text(self, name: str) -> str:
        """The value, or TorchServe's default; empty where it has none."""
        return self.said.get(name, DEFAULTS.get(name, "")).strip()

    def number(self, name: str) -> int:
        """The value as a number; the default if it is not a number, which is a finding of its own."""
        text = self.text(name)
        return int(text if NUMBER.fullmatch(text) else DEFAULTS[name])

    def on(self, name: str) -> bool:
        """Whether a switch is on, as Java reads it: only the word true means on."""
        return self.text(name).lower() == "true"

    def hosts(self, api: str) -> list[str]:
        """The hosts that an API listens on, REST and gRPC."""
        address = self.text(f"{api}_address")
        rest = [] if address.startswith("unix:") else [urlsplit(address).hostname or ""]
        return rest + [host for host in [self.text(f"grpc_{api}_address")] if host]

    def open(self, api: str) -> bool:
        """Whether an API can be reached from other machines."""
        return not all(is_loopback(host) for host in self.hosts(api))

    @property
    def tokens(self) -> bool:
        """Whether requests need a token; those for metrics never do."""
        return not self.on("disable_token_authorization")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's loopback, which no other machine reaches."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
