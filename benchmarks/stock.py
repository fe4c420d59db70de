"""Stock TorchServe: its own `image_classifier` with the same weights, in its default configuration."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import javaproperties
import torch
from classifier.identity import Identity, Model
from classifier.labels import load_labels
from classifier.recipe import Recipe, read_recipe

from scripts.archives.store import Archive
from scripts.building.original import original
from scripts.building.sources import sources
from scripts.building.weights import resolve
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


def build_stock(recipe_file: Path, store: Path, weights_file: str = "auto") -> Archive:
    """Build the archive as TorchServe's documentation says.

    Args:
        recipe_file: the model's recipe.
        store: folder of the archive.
        weights_file: the file of a state_dict; `auto` for the recipe's own weights.
    """
    recipe = read_recipe(recipe_file)
    weights = resolve(recipe, weights_file, Path("weights"), recipe_file.parent)
    folder = store / "content"
    folder.mkdir(parents=True)
    torch.save(original(recipe, weights).module.state_dict(), folder / "model.pth")
    labels = load_labels(recipe.labels, recipe_file.parent)
    names = {str(index): [label.class_id, label.class_name] for index, label in enumerate(labels)}
    (folder / "index_to_name.json").write_text(json.dumps(names))
    subprocess.run(
        [
            *(sys.executable, "-m", "model_archiver.model_packaging"),
            *("--model-name", recipe.name, "--version", _VERSION, "--handler", "image_classifier"),
            *("--model-file", str(sources(recipe)[0])),
            *("--serialized-file", str(folder / "model.pth")),
            *("--extra-files", str(folder / "index_to_name.json")),
            *("--export-path", str(store), "--archive-format", "zip-store"),
        ],
        check=True,
        capture_output=True,
    )
    return Archive(store / f"{recipe.name}.mar", _identity(recipe, weights.name, weights.sha256))


def stock_config(store: Path) -> dict[str, str]:
    """The configuration of a server of that store."""
    return with_free_ports(javaproperties.loads(_ADDRESSES)) | {"model_store": str(store.resolve())}


def _identity(recipe: Recipe, weights: str, sha256: str) -> Identity:
    model = Model(name=recipe.name, version=_VERSION, runtime="eager", precision="float32", weights=weights)
    return Identity(model=model, weights_sha256=sha256, serialized_file="model.pth")
