"""The homes of a model: each can be asked, in its own way, for the probabilities of all classes in a picture."""

import json
import logging
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import requests
from classifier import ImageClassifier, load
from classifier.pipeline import Classifier, load_pixels
from classifier.rank import probabilities
from classifier.runtimes import Forward
from numpy.typing import NDArray

from edge.mobile import load_program
from edge.triton.repository import REPOSITORY
from edge.triton.server import Client as TritonClient
from edge.triton.server import serving as triton_serving
from scripts.archives.loaded import loaded
from scripts.archives.store import Archive, archives_of, find_archive
from scripts.console import UserError
from scripts.torchserve.client import Client
from scripts.torchserve.config import CONFIG_FILE, read_config, with_free_ports
from scripts.torchserve.grpc_client import GrpcClient
from scripts.torchserve.server import serving

PROGRAM: Final = Path("edge/cpp/build/classify")


class Answer(msgspec.Struct, frozen=True):
    """The answer of a home for one picture."""

    probabilities: NDArray[np.float32]  # [classes]
    milliseconds: float


class Home(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run the model, ready for requests."""

    name: str
    precision: str
    size: int  # bytes of the file that carries the model there
    ask: Callable[[Path], Answer]


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model whose archives and files for other homes have been built."""

    name: str
    store: Path
    reference: Classifier  # the float32 eager archive in this process

    @property
    def archive(self) -> Archive:
        """The float32 eager archive."""
        return find_archive(f"{self.name}-eager", self.store)

    def ranked(self, predictions: list[dict[str, Any]]) -> NDArray[np.float32]:
        """The predictions of all classes as probabilities in the order of the labels; 0 for one that is not answered.

        Raises:
            UserError: two classes have the same id and name, so that an answer does not tell them apart.
        """
        names = [(label.class_id, label.class_name) for label in self.reference.labels]
        if len(set(names)) < len(names):
            raise UserError(f"{self.name}: two of its classes have the same id and name; answers cannot be compared")
        found = {(item["class_id"], item["class_name"]): item["probability"] for item in predictions}
        return np.array([found.get(name, 0) for name in names], np.float32)

    def pixels(self, picture: Path) -> NDArray[np.uint8]:
        """A picture as the model sees it, uint8 [1,H,W,3]."""
        pixels = load_pixels(picture.read_bytes(), self.reference.recipe.input)
        if not isinstance(pixels, np.ndarray):
            raise UserError(f"{picture}: {pixels.detail}")
        return pixels[None]


def timed(classify: Callable[[Path], NDArray[np.float32]]) -> Callable[[Path], Answer]:
    """Wrap a function of a picture so that it also returns how long it took."""

    def ask(picture: Path) -> Answer:
        begin = time.perf_counter()
        found = classify(picture)
        return Answer(found, (time.perf_counter() - begin) * 1e3)

    return ask


def python_homes(model: Model) -> Iterator[Home]:
    """Every archive of the model in this process, through the Python API."""
    for archive in archives_of(model.name, model.store):
        identity, size, classify = archive.identity.model, archive.path.stat().st_size, load(archive.path)
        ask = timed(partial(_ask_python, model, classify))
        yield Home(name=f"Python, {identity.runtime}", precision=identity.precision, size=size, ask=ask)


def _ask_python(model: Model, classify: ImageClassifier, picture: Path) -> NDArray[np.float32]:
    return model.ranked([msgspec.to_builtins(item) for item in classify(picture, top_k=len(model.reference.labels))])


def torchserve_homes(model: Model) -> Iterator[Home]:
    """The eager archive on TorchServe, over REST and gRPC."""
    archive = model.archive
    config = with_free_ports(read_config(CONFIG_FILE)) | {"model_store": str(model.store.resolve())}
    with (
        tempfile.TemporaryDirectory(prefix="everywhere-") as folder,
        serving(config, [archive], Path(folder)) as server,
        GrpcClient(server.addresses) as grpc,
    ):
        apis: dict[str, Client | GrpcClient] = {"REST": Client(server.addresses), "gRPC": grpc}
        for name, client in apis.items():
            ask = timed(partial(_ask_server, model, client))
            yield Home(name=f"TorchServe, {name}", precision="float32", size=archive.path.stat().st_size, ask=ask)


def _ask_server(model: Model, client: Client | GrpcClient | TritonClient, picture: Path) -> NDArray[np.float32]:
    answer = client.predict(picture.read_bytes(), model.name, top_k=len(model.reference.labels))
    return model.ranked(answer["predictions"])


def flask_homes(model: Model) -> Iterator[Home]:
    """The eager archive on Flask, over HTTP; the notebook behind a tunnel serves this application too."""
    from werkzeug.serving import make_server

    from devserver.app import create_app

    archive = model.archive
    with loaded(archive.path) as classifier:
        server = make_server("127.0.0.1", 0, create_app(classifier), threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # otherwise it logs every request
        thread.start()
        session = requests.Session()
        session.trust_env = False

        def ask(picture: Path) -> NDArray[np.float32]:
            form = {"top_k": str(len(classifier.labels))}
            address = f"http://127.0.0.1:{server.server_port}/predict"
            response = session.post(address, files={"file": picture.read_bytes()}, data=form, timeout=120)
            response.raise_for_status()
            return model.ranked(response.json()["predictions"])

        try:
            size = archive.path.stat().st_size
            yield Home(name="Flask, HTTP", precision="float32", size=size, ask=timed(ask))
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def cpp_homes(model: Model) -> Iterator[Home]:
    """The C++ program with the model's bundle; it measures itself how long a picture took."""
    bundle, program = Path("bundles") / model.name, _built(PROGRAM, "cpp")

    def ask(picture: Path) -> Answer:
        # TorchScript compiles during its first runs, so only the last of four runs counts
        command: list[str | Path] = [program, bundle, *[picture] * 4, "--logits"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if result.returncode:
            raise UserError(f"{program}: {result.stderr or result.stdout}")
        answer = json.loads(result.stdout.splitlines()[-1])
        return Answer(probabilities(np.array([answer["logits"]], np.float32))[0], answer["milliseconds"])

    size = _built(bundle / "model.pt", "cpp").stat().st_size
    yield Home(name="C++, LibTorch", precision="float32", size=size, ask=ask)


def onnx_homes(model: Model) -> Iterator[Home]:
    """The ONNX file in ONNX Runtime, as any program can run it."""
    import onnxruntime

    path = _built(Path("onnx") / f"{model.name}.onnx", "onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (entrance,) = session.get_inputs()

    def ask(picture: Path) -> NDArray[np.float32]:
        (logits,) = session.run(None, {entrance.name: model.pixels(picture)})
        row: NDArray[np.float32] = probabilities(logits)[0]
        return row

    yield Home(name="ONNX file, ONNX Runtime", precision="float32", size=path.stat().st_size, ask=timed(ask))


def mobile_homes(model: Model) -> Iterator[Home]:
    """The programs for phones, in ExecuTorch's runtime; without those whose backend exists only on phones."""
    folder = _built(Path("bundles") / f"{model.name}-mobile", "mobile")
    for path in sorted(folder.glob("*.pte")):
        forward = load_program(path, model.reference.recipe)
        if forward is not None:
            _, backend, precision = path.stem.rsplit("-", 2)
            ask = timed(partial(_ask_mobile, model, forward))
            name = f"phone's program, {backend.upper()}"
            yield Home(name=name, precision=precision, size=path.stat().st_size, ask=ask)


def _ask_mobile(model: Model, forward: Forward, picture: Path) -> NDArray[np.float32]:
    row: NDArray[np.float32] = probabilities(forward(model.pixels(picture)))[0]
    return row


def triton_homes(model: Model) -> Iterator[Home]:
    """The ONNX Runtime archive on NVIDIA's Triton, over HTTP."""
    network = _built(REPOSITORY / f"{model.name}_network", "triton")
    size = sum(path.stat().st_size for path in network.rglob("*") if path.is_file())
    with triton_serving() as client:
        ask = timed(partial(_ask_server, model, client))
        yield Home(name="Triton, HTTP", precision="float32", size=size, ask=ask)


def _built(path: Path, target: str) -> Path:
    if not path.exists():
        raise UserError(f"there is no {path}; `make {target}` writes it")
    return path


HOMES: Final = (python_homes, torchserve_homes, flask_homes, cpp_homes, onnx_homes, mobile_homes, triton_homes)


def all_homes(model: Model) -> Generator[Home]:
    """Every home of a model, one after the other, so that they do not share cores; close the iterator at the end.

    Raises:
        UserError: a file is not built; the message names the command that builds it.
    """
    for homes in HOMES:
        yield from homes(model)
