"""From nothing to a photograph classified by two models: `make demo`."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.archives.store import STORE
from scripts.building.make import ensure
from scripts.console import UserError
from scripts.predicting import demo
from scripts.torchserve.config import CONFIG_FILE
from scripts.torchserve.server import STATE_FOLDER

_MODELS: Final = ("vgg16", "efficientnet_lite0")


def main(*, state: Path = STATE_FOLDER, store: Path = STORE, config: Path = CONFIG_FILE, weights: str = "auto") -> None:
    """Build two models' archives, serve them, and show what each sees in a photograph.

    Args:
        state: state folder of the server.
        store: folder of the archives.
        config: TorchServe's configuration.
        weights: `auto`, `pretrained`, or a file of the first model's. Without it, archives that are there are taken.
    """
    folders = [f"--store={store}", f"--state={state}", f"--config={config}"]
    for model in _MODELS:
        if model == _MODELS[0] and weights != "auto":
            _verb("archive", f"--model={model}", "--runtime=eager", f"--weights={weights}", *folders[:2])
        else:
            ensure(model, ("eager", "float32"), store=store)
    _verb("serve", *(f"--models={model}-eager" for model in _MODELS), *folders)
    demo.show(state)


def _verb(name: str, *options: str) -> None:
    """Run a verb as a person would, in a process of its own."""
    command = [sys.executable, "-m", "scripts.command_line", name, *options]
    if subprocess.run(command, check=False).returncode != 0:
        raise UserError(f"the demo ends here: `{name}` failed, see above")
