"""mosec: a stage that prepares pictures, in a process for each core, and a stage that classifies batches."""

import io
from typing import Any

import torch
from mosec import Server, Worker
from numpy.typing import NDArray

from benchmarks.peers.model import Answer, Model, Preparation, set_up


class Prepare(Worker):
    """Prepares one picture at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.prepare = Preparation()

    def deserialize(self, data: bytes) -> bytes:
        """The body is the picture."""
        return data

    def forward(self, data: bytes) -> NDArray[Any]:
        """Prepare it; arrays pass between processes faster than tensors."""
        return self.prepare(io.BytesIO(data)).numpy()


class Classify(Worker):
    """Classifies batches."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    def forward(self, data: list[NDArray[Any]]) -> list[Answer]:
        """Classify a batch."""
        return self.model([torch.from_numpy(pixels) for pixels in data])


if __name__ == "__main__":
    subject = set_up()
    server = Server()
    server.append_worker(Prepare, num=subject["threads"])
    server.append_worker(Classify, max_batch_size=subject["batch_size"], max_wait_time=10)
    server.run()
