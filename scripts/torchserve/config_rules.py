"""The rules that find what is dangerous or slow in a config.properties of TorchServe 0.12.0.

A setting that the file does not have is at TorchServe's default: config_settings.py.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from scripts.torchserve.config_settings import APIS, DEFAULTS, ENVELOPE, Finding, Settings, is_loopback
from scripts.torchserve.config_syntax import addresses, numbers, tls, unknown

# Addresses from which an archive of somebody else could come.
_ELSEWHERE: Final = (
    "http://example.com/a.mar",
    "https://example.com/a.mar",
    "https://bucket.s3.amazonaws.com/a.mar",
    "file:///tmp/a.mar",
    "file:///etc/passwd",
)
_LARGE_REQUEST: Final = 100_000_000  # bytes; an uncompressed file of 64 megapixels has 192 MB, but nobody sends those
_TINY_QUEUE: Final = 16  # requests: two batches of 8, so that one waits while another is computed
_LONG_QUEUE: Final = 1000  # requests: at 100 pictures a second the last one waits ten seconds
_LEAST: Final = {"minWorkers": 0, "maxWorkers": 0, "batchSize": 1, "maxBatchDelay": 0, "responseTimeout": 1}
_LONG_TIMEOUT_S: Final = 300  # how long a hung worker may hold a batch
_THREADS_PER_CORE: Final = 4  # of the front end; Netty's own default is two
_DEBUGGERS: Final = ("jdwp", "jmxremote", "-Xdebug")  # open ports; anybody who reaches one runs code in the front end


def findings(settings: Settings) -> list[Finding]:
    """All findings about a configuration, the worst first."""
    found = [finding for rule in RULES for finding in rule(settings)]
    order = ("danger", "trouble", "loosened", "note")
    return sorted(found, key=lambda finding: order.index(finding.level))


# ---- who can reach the server


def _reach(settings: Settings) -> Iterator[Finding]:
    for api in APIS:
        if not settings.open(api):
            continue
        setting = f"{api}_address"
        if not settings.tokens:
            what = {"management": "load code", "inference": "have pictures classified", "metrics": "read them"}[api]
            yield Finding(
                "danger", setting, f"other machines reach it without a token, and can {what}; use loopback or tokens"
            )
        elif api == "management":
            yield Finding("loosened", setting, "other machines reach it; its token has 48 bits and travels unencrypted")
        elif api == "metrics":
            yield Finding("note", setting, "metrics never ask for a token: let only Prometheus reach that port")
        elif not settings.text(setting).startswith("https:"):
            yield Finding("note", setting, "no TLS here: put a gateway or load balancer with TLS in front")
    if not is_loopback(settings.text("grpc_inference_address")):
        text = "one call of StreamPredictions2 disables a worker for good: let no strangers reach the gRPC port"
        yield Finding("note", "grpc_inference_address", text)
    if urlsplit(settings.text("management_address")).netloc == urlsplit(settings.text("inference_address")).netloc:
        yield Finding("danger", "management_address", "the same as for inference: every client can also manage models")


def _tokens(settings: Settings) -> Iterator[Finding]:
    if not settings.tokens:
        if not any(settings.open(api) for api in APIS):
            text = "every program of this machine can send requests and manage models"
            yield Finding("loosened", "disable_token_authorization", text)
    elif settings.number("token_expiration_min") <= int(DEFAULTS["token_expiration_min"]):
        minutes = settings.number("token_expiration_min")
        yield Finding("note", "token_expiration_min", f"clients need new tokens after {minutes} minutes: `make token`")
    if settings.on("enable_model_api"):
        yield Finding("loosened", "enable_model_api", "versions can be registered and removed while the server runs")


def _web_pages(settings: Settings) -> Iterator[Finding]:
    if "*" in settings.text("cors_allowed_origin"):
        text = (
            "any web page can send requests, and manage models, through the browser of a user who reaches the server; "
            "name your own pages"
        )
        yield Finding("danger", "cors_allowed_origin", text)


def _keystore(settings: Settings) -> Iterator[Finding]:
    if settings.text("keystore") and settings.text("keystore_pass") in ("", "changeit"):
        yield Finding("danger", "keystore_pass", "the password is Java's well-known default, changeit")


# ---- whose code the server runs


def _urls(settings: Settings) -> Iterator[Finding]:
    patterns = [pattern for pattern in settings.text("allowed_urls").split(",") if pattern]
    for url in _ELSEWHERE:
        if any(_matches(pattern, url) for pattern in patterns):
            text = f"archives, and their code, may come from {url}; allowed_urls=none allows only the model store's"
            yield Finding("danger", "allowed_urls", text)
            return


def _matches(pattern: str, url: str) -> bool:
    try:
        return re.fullmatch(pattern.strip(), url) is not None
    except re.error:  # Java's syntax differs; a pattern that Python cannot read is not trusted
        return True


def _code(settings: Settings) -> Iterator[Finding]:
    if settings.on("install_py_dep_per_model"):
        text = "an archive's requirements.txt is installed, from the network, before anything is checked"
        yield Finding("danger", "install_py_dep_per_model", text)
    if settings.text("load_models") == "all":
        text = "every archive in the model store is run; name the archives"
        yield Finding("loosened", "load_models", text)
    if any(word in settings.text("vmargs") for word in _DEBUGGERS):
        yield Finding("danger", "vmargs", "opens a port for debugging Java: anybody who reaches it can run code")
    for name in ("enable_envvars_config", "use_env_allowed_urls"):
        if settings.on(name):
            yield Finding("loosened", name, "variables TS_… override this file, so a check of it proves little")


def _store(settings: Settings) -> Iterator[Finding]:
    text = settings.text("model_store")
    if not text:
        return
    store = Path(text).absolute()
    there = next(folder for folder in (store, *store.parents) if folder.exists())  # or where it would be created
    if there.stat().st_mode & 0o002:
        yield Finding("danger", "model_store", f"everybody can write to {there}, and its archives are run: chmod o-w")


# ---- what one client can do to others


def _sizes(settings: Settings) -> Iterator[Finding]:
    for name in ("max_request_size", "max_response_size"):
        if settings.number(name) > _LARGE_REQUEST:
            size = f"{settings.number(name) / 1e6:.0f} MB"
            yield Finding(
                "danger", name, f"each client can make the front end hold {size}; 20 MB are enough for pictures"
            )
    if settings.text("limit_max_image_pixels").lower() == "false":
        yield Finding("danger", "limit_max_image_pixels", "a small file can decode to gigabytes of pixels in a worker")


def _queue(settings: Settings) -> Iterator[Finding]:
    size = settings.number("job_queue_size")
    if size < _TINY_QUEUE:
        text = f"a burst of more than {size} requests is answered with 503; {_TINY_QUEUE} hold two batches of 8"
        yield Finding("trouble", "job_queue_size", text)
    elif size > _LONG_QUEUE:
        text = f"the last of {size} requests waits longer than its client will; a few seconds' worth is better"
        yield Finding("trouble", "job_queue_size", text)
    if settings.number("default_response_timeout") > _LONG_TIMEOUT_S:
        seconds = settings.number("default_response_timeout")
        yield Finding("trouble", "default_response_timeout", f"a worker that hangs is noticed only after {seconds} s")


# ---- how fast the server is, and whether that is measured


def _workers(settings: Settings) -> Iterator[Finding]:
    workers, name = settings.number("default_workers_per_model"), "default_workers_per_model"
    if workers < 1:
        text = (
            f"{settings.cores} workers a model here, one for each CPU, each with a copy of the weights; "
            "set a number, for example 1"
        )
        yield Finding("trouble", name, text)
    elif workers > settings.cores:
        text = f"{workers} workers a model compete for {settings.cores} cores, each with a copy of the weights"
        yield Finding("trouble", name, text)


def _configured_workers(settings: Settings) -> Iterator[Finding]:
    try:
        models = msgspec.json.decode(settings.text("models") or "{}", type=dict[str, dict[str, dict[str, object]]])
    except msgspec.DecodeError as error:
        yield Finding("trouble", "models", f"TorchServe cannot read it: {error}")
        return
    each = [version for versions in models.values() for version in versions.values()]
    for name, least in _LEAST.items():
        if any(isinstance(number := version.get(name, least), int) and number < least for version in each):
            yield Finding("trouble", "models", f"a {name} less than {least} makes no sense")
    workers = [version.get("minWorkers", 1) for version in each]
    total = sum(number for number in workers if isinstance(number, int))
    if total > settings.cores:
        text = f"{total} workers compete for {settings.cores} cores; use fewer workers and larger batches"
        yield Finding("trouble", "models", text)


def _threads(settings: Settings) -> Iterator[Finding]:
    for name in ("number_of_netty_threads", "netty_client_threads"):
        if settings.number(name) > _THREADS_PER_CORE * settings.cores:
            text = f"{settings.number(name)} threads of the front end take {settings.cores} cores from the model"
            yield Finding("trouble", name, text)


def _sight(settings: Settings) -> Iterator[Finding]:
    if settings.text("metrics_mode").lower() != "prometheus":
        text = "the metrics port answers with an empty page; set metrics_mode=prometheus"
        yield Finding("trouble", "metrics_mode", text)
    if not settings.on("enable_metrics_api"):
        yield Finding("trouble", "enable_metrics_api", "the metrics port does not answer")
    if settings.on("debug"):
        yield Finding("trouble", "debug", "one worker for each model, and thousands of lines of log")


def _bodies(settings: Settings) -> Iterator[Finding]:
    if settings.on("decode_input_request"):
        text = "a broken JSON body never reaches the handler and its error answer; set decode_input_request=false"
        yield Finding("trouble", "decode_input_request", text)


def _envelope(settings: Settings) -> Iterator[Finding]:
    if envelope := settings.text(ENVELOPE):
        yield Finding("trouble", ENVELOPE, envelope_refusal(envelope))


def envelope_refusal(envelope: str) -> str:
    """Why no archive of this project is served with an envelope, and what to do."""
    return (
        f"the envelope {envelope} rewrites each batch before the handler sees it, so every request would be answered "
        "with 503; leave it out: KServe's protocols v1 and v2 are answered without it, beside all other bodies"
    )


RULES: Final[tuple[Callable[[Settings], Iterator[Finding]], ...]] = (
    *(_reach, _tokens, _web_pages, _keystore, _urls, _code, _store),
    *(_sizes, _queue, _workers, _configured_workers, _threads, _sight, _bodies, _envelope),
    *(numbers, addresses, tls, unknown),
)
