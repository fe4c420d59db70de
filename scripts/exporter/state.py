"""What a server is at this moment: its versions and workers, their queues and memory, what they were made of."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import psutil
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from scripts.archives.store import content_of, signature_of
from scripts.console import UserError
from scripts.torchserve.described import ModelVersion
from scripts.torchserve.server import Server, front_end

_FRESH_S: Final = 1.0  # how long what was asked counts: several readers must not become as many questions
_TIMEOUT_S: Final = 5
_VERSION: Final = ("model", "version")


class _Signed(msgspec.Struct):
    """What is shown of a signature file."""

    key: str


class State(Collector):
    """The state of one server, asked of its management API and of the system."""

    def __init__(self, server: Server, store: Path) -> None:
        """Ask nothing yet.

        Args:
            server: the server.
            store: the folder of its archives.
        """
        self._server, self._store = server, store
        self._client = server.client(timeout_s=_TIMEOUT_S, connect_retries=0)
        self._asked: float | None = None
        self._versions: list[ModelVersion] | None = None
        self._defaults: dict[str, str] = {}
        self._made_of: dict[tuple[str, float], tuple[str, str]] = {}

    def registered(self) -> dict[str, tuple[str, str]]:
        """Name and version of each registered version, by `<name>_<version>`; empty if the server does not say."""
        return {f"{item.name}_{item.version}": (item.name, item.version) for item in self.versions() or ()}

    def versions(self) -> list[ModelVersion] | None:
        """The registered versions, as of a second ago at most; None if the server does not say."""
        if self._asked is None or time.monotonic() - self._asked > _FRESH_S:
            try:
                self._versions, self._defaults = self._client.versions(), self._client.defaults()
            except UserError:  # it is starting, ending, or too busy to say
                self._versions, self._defaults = None, {}
            self._asked = time.monotonic()
        return self._versions

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics."""
        versions = self.versions()
        yield _gauge("classifier_up", "Whether the management API answers.", (), [((), versions is not None)])
        yield from _of_versions(versions or [], self._defaults)
        yield from self._memory(versions or [])
        yield from self._archives(versions or [])
        yield from self._expiries()

    def _memory(self, versions: list[ModelVersion]) -> Iterator[GaugeMetricFamily]:
        """The memory of each process: what it alone needs, and its part of what several have mapped."""
        of_workers = GaugeMetricFamily(
            "classifier_worker_memory_bytes", "Proportional set size of a worker.", labels=(*_VERSION, "worker")
        )
        for version in versions:
            for worker in version.processes:
                if (size := _pss(worker.pid)) is not None:
                    of_workers.add_metric((version.name, version.version, worker.name), size)
        yield of_workers
        try:
            size = _pss(front_end(self._server).pid)
        except StopIteration:  # it has ended
            size = None
        sizes = [] if size is None else [((), size)]
        yield _gauge("classifier_frontend_memory_bytes", "The same of TorchServe's front end.", (), sizes)

    def _archives(self, versions: list[ModelVersion]) -> Iterator[GaugeMetricFamily]:
        found = [(item, *self._content(item.archive)) for item in versions]
        yield _gauge(
            "classifier_archive_info",
            "What a version was made of: its archive's digest, and the key that signed it, if any.",
            (*_VERSION, "archive", "digest", "signed_by"),
            [((item.name, item.version, item.archive, digest, key), 1) for item, digest, key in found],
        )

    def _content(self, archive: str) -> tuple[str, str]:
        """The digest of an archive, and the key that signed it; empty where they cannot be read."""
        path = self._store / archive
        try:
            changed = path.stat().st_mtime
            if (archive, changed) not in self._made_of:
                self._made_of[archive, changed] = content_of(path), _signed_by(path)
            return self._made_of[archive, changed]
        except (OSError, UserError):  # removed from the store, or foreign: the server has a copy
            return "", ""

    def _expiries(self) -> Iterator[GaugeMetricFamily]:
        """When something expires that somebody must renew, in seconds since 1970."""
        try:
            tokens = self._client.tokens.expirations()
        except UserError:  # the file cannot be read
            tokens = {}
        yield _gauge(
            "classifier_token_expires_timestamp_seconds",
            "When a token of the server expires.",
            ("api",),
            [((api,), moment.timestamp()) for api, moment in tokens.items()],
        )
        if self._server.certificate is not None:
            until = _valid_until(Path(self._server.certificate))
            yield _gauge(
                "classifier_certificate_expires_timestamp_seconds",
                "When the server's TLS certificate expires.",
                (),
                [] if until is None else [((), until)],
            )


def _of_versions(versions: list[ModelVersion], defaults: dict[str, str]) -> Iterator[GaugeMetricFamily]:
    workers = Counter((item.name, item.version, worker.status) for item in versions for worker in item.processes)
    named = [((item.name, item.version), item) for item in versions]
    yield _gauge("classifier_workers", "Workers of a version, by state.", (*_VERSION, "state"), workers.items())
    for name, text, value in (
        ("workers_wanted", "Workers that a version should have.", lambda item: item.min_workers),
        ("workers_ready", "Workers of a version that are READY and whose process is there.", _ready),
        ("queue_requests", "Requests that wait for a worker of a version.", lambda item: item.waiting),
        ("queue_room", "Requests for which a version's queue has room.", lambda item: item.room),
        (
            "default",
            "Whether requests that name no version go to it.",
            lambda item: defaults.get(item.name) == item.version,
        ),
    ):
        yield _gauge(f"classifier_{name}", text, _VERSION, [(labels, value(item)) for labels, item in named])


def _ready(version: ModelVersion) -> int:
    """TorchServe says READY of a process that is gone, too."""
    return sum(psutil.pid_exists(pid) for pid in version.ready_pids)


def _gauge(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _pss(pid: int | None) -> int | None:
    """The proportional set size of a process in bytes; None if it is gone, or the system does not tell."""
    if pid is None:
        return None
    try:
        return int(psutil.Process(pid).memory_full_info().pss)
    except (psutil.Error, AttributeError):  # AttributeError: only Linux has it
        return None


def _signed_by(archive: Path) -> str:
    try:
        return msgspec.json.decode(signature_of(archive).read_bytes(), type=_Signed).key
    except (OSError, msgspec.MsgspecError):
        return ""


def _valid_until(certificate: Path) -> float | None:
    from cryptography import x509  # takes a tenth of a second, for the few that encrypt

    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return None
