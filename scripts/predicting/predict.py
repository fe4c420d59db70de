"""Sends one picture to a running server and shows the answer: `make predict IMAGE=…`."""

from pathlib import Path
from typing import Any

from rich.table import Table

from scripts.archives.store import STORE
from scripts.console import UserError, out
from scripts.torchserve.chosen import chosen_model
from scripts.torchserve.grpc_client import GrpcClient
from scripts.torchserve.server import STATE_FOLDER, Server, running


def predict(
    server: Server, image: bytes, model: str, version: str | None, top_k: int | None, grpc: bool
) -> dict[str, Any]:
    """Classify a picture over REST or gRPC; returns the answer as in the contract."""
    if not grpc:
        return server.client().predict(image, model, version, top_k)
    with GrpcClient(server.addresses, server.key_path) as client:
        return client.predict(image, model, version, top_k)


def answer_table(answer: dict[str, Any]) -> Table:
    """Format an answer as a table of classes, with the model as its title."""
    model = answer["model"]
    title = "{name} {version} · {runtime} {precision} · weights: {weights}".format(**model)
    table = Table("class", "id", "probability", title=title, title_justify="left")
    for item in answer["predictions"]:
        table.add_row(item["class_name"], item["class_id"], f"{item['probability']:.1%}")
    return table


def main(
    image: Path,
    *,
    model: str | None = None,
    version: str | None = None,
    top_k: int | None = None,
    grpc: bool = False,
    state: Path = STATE_FOLDER,
    store: Path = STORE,
) -> None:
    """Ask a running server about a picture.

    Args:
        image: the picture.
        model: the model to ask; without it, the one model that runs or lies in the store.
        version: version of the model; its default version without it.
        top_k: number of classes to show; 5 without it.
        grpc: gRPC instead of REST.
        state: state folder of the server.
        store: folder of the archives.
    """
    try:
        content = image.read_bytes()
    except OSError as error:
        raise UserError(f"{image}: {error.strerror}") from error
    server = running(state)
    answer = predict(server, content, chosen_model(model, state, store), version, top_k, grpc)
    out.print(answer_table(answer), soft_wrap=False)
