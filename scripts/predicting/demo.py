"""One real photograph, classified by every model of a running server: the last step of `make demo`."""

from pathlib import Path

from rich.table import Table

from scripts.building.golden import photograph
from scripts.console import UserError, out
from scripts.torchserve.client import Client
from scripts.torchserve.server import running

PICTURE = "chelsea.png"  # a cat; trained models say an Egyptian cat
_SHOWN = 3


def comparison(client: Client, image: bytes, models: list[str]) -> Table:
    """The table of the classes that each model sees in the picture, with the name of its weights."""
    table = Table("model", "version", "weights", "class", "probability", title=PICTURE, title_justify="left")
    for name in models:
        answer = client.predict(image, name, top_k=_SHOWN)
        model = answer["model"]
        for rank, item in enumerate(answer["predictions"]):
            who = (name, model["version"], model["weights"]) if rank == 0 else ("", "", "")
            table.add_row(*who, item["class_name"], f"{item['probability']:.1%}", end_section=rank == _SHOWN - 1)
    return table


def show(state: Path) -> None:
    """Show the table of all models that the server has.

    Raises:
        UserError: no server runs from that state folder, it has no models, or it refuses the request.
    """
    client = running(state).client()
    path = photograph(PICTURE)
    models = sorted({version.name for version in client.versions()})
    if not models:
        raise UserError("the server has no models; `make stop`, then `make demo`")
    out.print(comparison(client, path.read_bytes(), models), soft_wrap=False)
    out.print(f"Your turn: make predict MODEL={models[0]} IMAGE={path}\nWhen done: make stop")
