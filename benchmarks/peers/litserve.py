"""LitServe: `max_batch_size` with a short `batch_timeout`, one worker, uploads as a file of a form."""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import litserve
from fastapi import Request
from torch import Tensor

from benchmarks.peers.model import Answer, Model, Preparation, set_up


class Classifier(litserve.LitAPI):
    """The pictures of a batch are prepared on all cores: Pillow releases Python's lock."""

    def setup(self, device: str) -> None:
        """Load the model, once for each worker."""
        self.prepare, self.model = Preparation(), Model()
        self.pool = ThreadPoolExecutor(set_up()["threads"])

    def decode_request(self, request: Request) -> BinaryIO:
        """The uploaded file. What comes is the form; the annotation is what tells LitServe to read one."""
        file: BinaryIO = request["picture"].file
        return file

    def batch(self, inputs: list[BinaryIO]) -> list[Tensor]:
        """Prepare a batch."""
        return list(self.pool.map(self.prepare, inputs))

    def predict(self, x: list[Tensor]) -> list[Answer]:
        """Classify a batch."""
        return self.model(x)


if __name__ == "__main__":
    api = Classifier(max_batch_size=set_up()["batch_size"], batch_timeout=0.01)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
