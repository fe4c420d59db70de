"""One real picture, classified by every model of a running server: the last step of `make demo`."""

from pathlib import Path

from rich.table import Table

from scripts.building.golden import photograph
from scripts.console import UserError, out
from scripts.torchserve.client import Client
from scripts.torchserve.server import running

PICTURE = "chelsea.png"  # where the user names none
_SHOWN = 3


def comparison(client: Client, image: bytes, models: list[str], title: str) -> Table:
    """The table of the classes that each model sees in the picture, with the name of its weights."""
    table = Table("model", "version", "weights", "class", "probability", title=title, title_justify="left")
    for name in models:
        answer = client.predict(image, name)
        model = answer["model"]
        who = (name, model["version"], model["weights"])
        for item in answer["predictions"][:_SHOWN]:
            table.add_row(*who, item["class_name"], f"{item['probability']:.1%}")
            who = ("", "", "")
        if not answer["predictions"]:  # no class reaches the recipe's threshold
            table.add_row(*who, "none", "")
        table.add_section()
    return table


def show(state: Path, image: Path | None = None) -> None:
    """Show the table of all models that the server has.

    Args:
        state: state folder of the server.
        image: the picture; a photograph of a cat without it.

    Raises:
        UserError: no server runs from that state folder, it has no models, or it refuses the request.
    """
    client = running(state).client()
    path = image or photograph(PICTURE)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    models = sorted({version.name for version in client.versions()})
    if not models:
        raise UserError("the server has no models; `make stop`, then `make demo`")
    out.print(comparison(client, content, models, path.name), soft_wrap=False)
    out.print(f"Your turn: make predict MODEL={models[0]} IMAGE={path}\nWhen done: make stop")
