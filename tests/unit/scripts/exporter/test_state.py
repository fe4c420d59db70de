"""What a server is at this moment, with a stand-in for its management API."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from scripts.archives.store import content_of
from scripts.exporter.state import State
from tests.unit.conftest import Answer, FakeTorchServe, described


def registry(torchserve: FakeTorchServe, store: Path) -> CollectorRegistry:
    found = CollectorRegistry()
    found.register(State(torchserve.server, store))
    return found


def serve(torchserve: FakeTorchServe, *versions: dict[str, Any]) -> None:
    torchserve.answers |= {
        "GET /models?next_page_token=0": [Answer({"models": [{"modelName": "tiny"}]})],
        "GET /models/tiny/all": [Answer(list(versions))],
        "GET /models/tiny": [Answer([versions[0]])],
    }


def with_pid(version: dict[str, Any], pid: int) -> dict[str, Any]:
    return version | {"workers": [worker | {"pid": pid} for worker in version["workers"]]}


def test_workers_queues_and_the_default_are_told_by_version(torchserve: FakeTorchServe, tmp_path: Path) -> None:
    serve(
        torchserve,
        with_pid(described("1.0", "READY", waiting=7), os.getpid()),
        described("2.0", "UNLOADING", minimum=2),
    )
    found = registry(torchserve, tmp_path)

    def value(name: str, version: str, **labels: str) -> float | None:
        return found.get_sample_value(f"classifier_{name}", {"model": "tiny", "version": version} | labels)

    assert found.get_sample_value("classifier_up") == 1
    assert value("workers", "1.0", state="READY") == value("workers", "2.0", state="UNLOADING") == 1
    assert [value("workers_wanted", version) for version in ("1.0", "2.0")] == [1, 2]
    assert [value("workers_ready", version) for version in ("1.0", "2.0")] == [1, 0]
    assert [value("default", version) for version in ("1.0", "2.0")] == [1, 0]
    assert value("queue_requests", "1.0") == 7
    assert (value("worker_memory_bytes", "1.0", worker="9000") or 0) > 1e6


def test_a_worker_whose_process_is_gone_is_not_ready(torchserve: FakeTorchServe, tmp_path: Path) -> None:
    serve(torchserve, with_pid(described("1.0", "READY"), 2**22 + 1))  # above the largest pid of Linux
    found = registry(torchserve, tmp_path)
    assert found.get_sample_value("classifier_workers_ready", {"model": "tiny", "version": "1.0"}) == 0


def test_a_version_says_what_it_was_made_of_and_who_signed_it(
    torchserve: FakeTorchServe, tiny_archive: Callable[..., Path], tmp_path: Path
) -> None:
    archive = tmp_path / "tiny-eager-1.0.mar"
    archive.symlink_to(tiny_archive())
    serve(torchserve, described("1.0", "READY") | {"modelUrl": archive.name})
    labels = {"model": "tiny", "version": "1.0", "archive": archive.name, "digest": content_of(archive)}
    found = registry(torchserve, tmp_path)
    assert found.get_sample_value("classifier_archive_info", labels | {"signed_by": ""}) == 1
    (tmp_path / f"{archive.name}.sig").write_text(
        json.dumps({"key": "0123456789abcdef", "sha256": "", "signature": ""})
    )
    found = registry(torchserve, tmp_path)
    assert found.get_sample_value("classifier_archive_info", labels | {"signed_by": "0123456789abcdef"}) == 1
    archive.unlink()  # the server has unpacked it
    found = registry(torchserve, tmp_path)
    labels |= {"digest": "", "signed_by": ""}
    assert found.get_sample_value("classifier_archive_info", labels) == 1


def test_a_server_that_does_not_answer_is_down_and_nothing_else(
    refusing_address: str, torchserve: FakeTorchServe, tmp_path: Path
) -> None:
    torchserve.address = refusing_address
    found = registry(torchserve, tmp_path)
    assert found.get_sample_value("classifier_up") == 0
    assert {family.name for family in found.collect() if family.samples} == {"classifier_up"}


def test_tokens_tell_when_they_expire(torchserve: FakeTorchServe, tmp_path: Path) -> None:
    keys = tmp_path / "key_file.json"
    key = {"key": "x", "expiration time": "2030-01-01T00:00:00Z"}
    keys.write_text(json.dumps({"inference": key, "management": key, "API": {"key": "y"}}))
    serve(torchserve, described("1.0", "READY"))
    found = CollectorRegistry()
    found.register(State(msgspec.structs.replace(torchserve.server, key_file=str(keys)), tmp_path))
    for api in ("inference", "management"):
        assert found.get_sample_value("classifier_token_expires_timestamp_seconds", {"api": api}) == 1_893_456_000


def test_many_readers_at_once_ask_the_server_once(torchserve: FakeTorchServe, tmp_path: Path) -> None:
    serve(torchserve, described("1.0", "READY"))
    state = State(torchserve.server, tmp_path)
    for _ in range(5):
        assert state.registered() == {"tiny_1.0": ("tiny", "1.0")}
    assert torchserve.questions().count("GET /models/tiny/all") == 1
