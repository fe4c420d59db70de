"""What TorchServe tells of a registered version of a model."""

from collections.abc import Mapping
from typing import Any

import msgspec


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """One worker of a version, whose process may be gone or not there yet."""

    name: str  # its number in TorchServe, which a worker that is started again keeps
    status: str
    pid: int | None


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One registered version of a model and its workers."""

    name: str
    version: str
    archive: str
    workers: list[str]  # the status of each
    min_workers: int
    processes: list[Worker] = []  # the workers one by one
    pids: list[int] = []  # of the workers' processes
    ready_pids: list[int] = []  # of those that are READY
    waiting: int = 0  # requests in its queue, which no worker has taken yet
    room: int = 0  # for how many more its queue has room
    batch_size: int = 0
    max_batch_delay_ms: int = 0
    response_timeout_s: int = 0

    @property
    def ready(self) -> bool:
        """Whether as many workers as there should be are READY."""
        return len(self.workers) >= self.min_workers > 0 and set(self.workers) == {"READY"}


def read_version(entry: Mapping[str, Any]) -> ModelVersion:
    """Read one entry of the answer to a describe call."""
    workers = entry["workers"]
    return ModelVersion(
        name=entry["modelName"],
        version=entry["modelVersion"],
        archive=entry["modelUrl"],
        workers=[worker["status"] for worker in workers],
        min_workers=entry["minWorkers"],
        processes=[Worker(name=w["id"], status=w["status"], pid=w.get("pid")) for w in workers],
        pids=[worker["pid"] for worker in workers if "pid" in worker],
        ready_pids=[worker["pid"] for worker in workers if "pid" in worker and worker["status"] == "READY"],
        waiting=entry["jobQueueStatus"]["pendingRequests"],
        room=entry["jobQueueStatus"]["remainingCapacity"],
        batch_size=entry["batchSize"],
        max_batch_delay_ms=entry["maxBatchDelay"],
        response_timeout_s=entry["responseTimeout"],
    )
