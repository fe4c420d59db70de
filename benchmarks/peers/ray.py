"""Ray Serve: `@serve.batch` in one replica that has all cores, its work in threads instead of on the event loop."""

import asyncio
import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.requests import Request
from torch import Tensor

from benchmarks.peers.model import Answer, Model, Preparation, set_up

SUBJECT = set_up()


@serve.deployment(
    ray_actor_options={"num_cpus": SUBJECT["threads"]},
    max_ongoing_requests=100,  # more than clients, so that batches can form
    logging_config=LoggingConfig(enable_access_log=False),
)
class Classifier:
    """Pictures are prepared on all cores, and classified by one thread, on which the model was loaded."""

    def __init__(self) -> None:
        self.prepare = Preparation()
        self.preparing, self.computing = ThreadPoolExecutor(SUBJECT["threads"]), ThreadPoolExecutor(1)
        self.model = self.computing.submit(Model).result()

    @serve.batch(max_batch_size=SUBJECT["batch_size"], batch_wait_timeout_s=0.01)
    async def classify(self, pictures: list[Tensor]) -> list[Answer]:
        """Classify a batch."""
        return await asyncio.get_running_loop().run_in_executor(self.computing, self.model, pictures)

    async def __call__(self, request: Request) -> Answer:
        """Classify the picture in the body."""
        file = io.BytesIO(await request.body())
        pixels = await asyncio.get_running_loop().run_in_executor(self.preparing, self.prepare, file)
        answer: Answer = await self.classify(pixels)
        return answer


if __name__ == "__main__":
    ray.init(
        num_cpus=SUBJECT["threads"],
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=os.environ["TMPDIR"],
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    deployment: Any = Classifier  # what the decorator has made of the class
    serve.run(deployment.bind(), blocking=True)
