"""Stock TorchServe: its own `image_classifier` with the same weights, in its default configuration, by its launcher."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import javaproperties
from classifier.identity import LABELS_FILE, RECIPE_FILE, Identity
from classifier.labels import read_labels
from classifier.recipe import Recipe, read_recipe
from msgspec.structs import replace

from scripts.archives.loaded import unpacked
from scripts.archives.store import Archive
from scripts.torchserve.command import CONFIG, Start, models
from scripts.torchserve.config import with_free_ports

# The addresses must be set; every other setting stays at TorchServe's default.
_ADDRESSES: Final = """
inference_address=http://127.0.0.1:8080
management_address=http://127.0.0.1:8081
metrics_address=http://127.0.0.1:8082
grpc_inference_address=127.0.0.1
grpc_management_address=127.0.0.1
grpc_inference_port=7070
grpc_management_port=7071
disable_token_authorization=true
"""
_VERSION: Final = "1.0"
# What TorchServe's `image_classifier` does to every model, whatever the model needs.
_SIZE: Final = (224, 224)
_TOP: Final = 5


class NoCounterpartError(Exception):
    """TorchServe's own handler cannot serve this model as it is; the message says why."""


def build_stock(eager: Archive, store: Path) -> Archive:
    """Build the archive of an eager archive's model, with its weights, as TorchServe's documentation says.

    Raises:
        NoCounterpartError: TorchServe's handler cannot serve the model.
        UserError: the archive is damaged.
    """
    model = eager.identity.model
    with unpacked(eager.path) as source, tempfile.TemporaryDirectory(dir=store) as content:
        recipe, labels = read_recipe(source / RECIPE_FILE), read_labels(source / LABELS_FILE)
        module = source / f"{(recipe.architecture or '').partition(':')[0]}.py"
        _refuse_unlike(recipe, len(labels), module)
        folder = Path(content)
        shutil.copy(source / eager.identity.serialized_file, folder / "model.pth")
        names = {str(index): [label.class_id, label.class_name] for index, label in enumerate(labels)}
        (folder / "index_to_name.json").write_text(json.dumps(names))
        subprocess.run(
            [
                *(sys.executable, "-m", "model_archiver.model_packaging"),
                *("--model-name", model.name, "--version", _VERSION, "--handler", "image_classifier"),
                *("--model-file", str(module)),
                *("--serialized-file", str(folder / "model.pth")),
                *("--extra-files", str(folder / "index_to_name.json")),
                *("--export-path", str(store), "--archive-format", "zip-store"),
            ],
            check=True,
            capture_output=True,
        )
    identity = Identity(
        model=replace(model, version=_VERSION),
        weights_sha256=eager.identity.weights_sha256,
        serialized_file="model.pth",
    )
    return Archive(store / f"{model.name}.mar", identity)


def _refuse_unlike(recipe: Recipe, classes: int, module: Path) -> None:
    if recipe.input.size != _SIZE:
        height, width = recipe.input.size
        raise NoCounterpartError(f"it gives every model pictures of 224 x 224, and this one takes {height} x {width}")
    if classes < _TOP:
        raise NoCounterpartError(f"it answers with five classes, and this model has {classes}")
    if not module.is_file():
        raise NoCounterpartError("it takes a model from one file of its own, and this one's is none")


def stock_config(store: Path) -> dict[str, str]:
    """The configuration of a server of that store."""
    return with_free_ports(javaproperties.loads(_ADDRESSES)) | {"model_store": str(store.resolve())}


def stock_command(start: Start) -> list[str]:
    """The command line that TorchServe's documentation starts a server with."""
    found = [sys.executable, "-m", "ts.model_server", "--start", "--foreground", "--ts-config", CONFIG]
    found += ["--model-store", start.config["model_store"]]
    return [*found, "--models", *models(start.archives)]
