"""BentoML: adaptive batching, which `batchable=True` and a list of pictures turn on."""

from concurrent.futures import ThreadPoolExecutor

import bentoml
from PIL import Image

from benchmarks.peers.model import Answer, Model, Preparation, set_up


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Classifier:
    """The pictures of a batch are prepared on all cores: Pillow releases Python's lock."""

    def __init__(self) -> None:
        self.prepare, self.model = Preparation(), Model()
        self.pool = ThreadPoolExecutor(set_up()["threads"])

    @bentoml.api(batchable=True, max_batch_size=set_up()["batch_size"])
    def predict(self, picture: list[Image.Image]) -> list[Answer]:
        """Classify the pictures of several requests."""
        return self.model(list(self.pool.map(self.prepare, picture)))
