"""Send one picture to a running server and show the answer: `make predict IMAGE=…`."""

import argparse
from pathlib import Path
from typing import Any

from rich.table import Table

from scripts.console import UserError, out, run
from scripts.torchserve.client import RequestFailedError
from scripts.torchserve.grpc_client import GrpcClient
from scripts.torchserve.server import STATE_FOLDER, Server, running


def predict(
    server: Server, image: bytes, model: str, version: str | None, top_k: int | None, grpc: bool
) -> dict[str, Any]:
    """Classify a picture over REST or gRPC: the answer as the contract has it."""
    if not grpc:
        return server.client().predict(image, model, version, top_k)
    with GrpcClient(server.addresses, server.key_path) as client:
        return client.predict(image, model, version, top_k)


def answer_table(answer: dict[str, Any]) -> Table:
    """An answer as a table of classes, headed by the model that gave it."""
    model = answer["model"]
    title = "{name} {version} · {runtime} {precision} · weights: {weights}".format(**model)
    table = Table("class", "id", "probability", title=title, title_justify="left")
    for item in answer["predictions"]:
        table.add_row(item["class_name"], item["class_id"], f"{item['probability']:.1%}")
    return table


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m scripts.predicting.predict", description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", default="vgg16")
    parser.add_argument("--version")
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--grpc", action="store_true", help="over gRPC instead of REST")
    parser.add_argument("--state", type=Path, default=STATE_FOLDER, help="state folder of the server")
    arguments = parser.parse_args()
    try:
        image = arguments.image.read_bytes()
    except OSError as error:
        raise UserError(f"{arguments.image}: {error.strerror}") from error
    server = running(arguments.state)
    try:
        answer = predict(server, image, arguments.model, arguments.version or None, arguments.top_k, arguments.grpc)
    except RequestFailedError as error:
        raise UserError(str(error)) from error
    out.print(answer_table(answer), soft_wrap=False)


if __name__ == "__main__":
    run(main)
