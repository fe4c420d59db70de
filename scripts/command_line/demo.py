"""From nothing to a picture classified by two models, or by the user's own: `make demo`."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.archives.store import STORE
from scripts.building.make import RECIPES, ensure
from scripts.console import UserError
from scripts.predicting import demo
from scripts.torchserve.config import CONFIG_FILE
from scripts.torchserve.server import STATE_FOLDER

_MODELS: Final = ("vgg16", "efficientnet_lite0")


def main(
    *,
    models: tuple[str, ...] = (),
    image: Path | None = None,
    state: Path = STATE_FOLDER,
    store: Path = STORE,
    config: Path = CONFIG_FILE,
    weights: str = "auto",
    recipes: Path = RECIPES,
) -> None:
    """Build models' archives, serve them, and show what each sees in a picture.

    Args:
        models: names of the recipes; the two that come with the project without it.
        image: the picture; a photograph of a cat without it.
        state: state folder of the server.
        store: folder of the archives.
        config: TorchServe's configuration.
        weights: `auto`, `pretrained`, or a file of the first model's. Without it, archives that are there are taken.
        recipes: folder of the recipes.
    """
    if image is not None and not image.is_file():
        raise UserError(f"IMAGE={image}: there is no such file")
    chosen = models or _MODELS
    folders = [f"--store={store}", f"--state={state}", f"--config={config}"]
    for model in chosen:
        if model == chosen[0] and weights != "auto":
            where = (f"--store={store}", f"--state={state}", f"--recipes={recipes}")
            _verb("archive", f"--model={model}", "--runtime=eager", f"--weights={weights}", *where)
        else:
            ensure(model, ("eager", "float32"), store=store, recipes=recipes)
    _verb("serve", *(f"--models={model}-eager" for model in chosen), *folders)
    demo.show(state, image)


def _verb(name: str, *options: str) -> None:
    """Run a verb as a person would, in a process of its own."""
    command = [sys.executable, "-m", "scripts.command_line", name, *options]
    if subprocess.run(command, check=False).returncode != 0:
        raise UserError(f"the demo ends here: `{name}` failed, see above")
