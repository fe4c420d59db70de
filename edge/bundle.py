"""What a program that is not Python needs of a model: `make bundle`.

A folder with `model.pt` (TorchScript), `bundle.json` (the recipe's constants, the labels, who the model is) and golden
vectors: photographs, the tensor that each must become, and the answer that it must get.
"""

import argparse
import shutil
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from classifier.pipeline import Classifier, load_pixels
from classifier.preprocess import NORMALIZATIONS, normalize
from classifier.problems import Problem
from classifier.rank import top_k
from classifier.service import checked_top_k

from scripts.archives.loaded import loaded
from scripts.archives.store import find_archive
from scripts.building.golden import labelled
from scripts.console import UserError, done, run

MODEL_FILE: Final = "model.pt"
BUNDLE_FILE: Final = "bundle.json"


def write_bundle(classifier: Classifier, folder: Path) -> None:
    """Write the bundle of a loaded TorchScript archive."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(classifier.source.path, folder / MODEL_FILE)
    write_facts(classifier, folder)


def write_facts(classifier: Classifier, folder: Path) -> None:
    """Write what is true of a model in any language: `bundle.json` and the golden vectors."""
    (folder / "golden").mkdir(exist_ok=True)
    (folder / BUNDLE_FILE).write_bytes(
        msgspec.json.format(msgspec.json.encode(constants(classifier)), indent=1) + b"\n"
    )
    for path in labelled():
        write_golden(classifier, path, folder / "golden")


def constants(classifier: Classifier) -> dict[str, object]:
    """Everything about a model that a program must not write down itself."""
    mean, std = NORMALIZATIONS[classifier.recipe.input.normalization]
    return {
        "model": classifier.identity.model,
        "weights_sha256": classifier.identity.weights_sha256,
        "input": msgspec.to_builtins(classifier.recipe.input) | {"mean": mean, "std": std},
        "labels": classifier.labels,
    }


def write_golden(classifier: Classifier, path: Path, folder: Path) -> None:
    """A photograph, the float32 [3,H,W] that it must become (`.npy`), its logits and likeliest classes (`.json`)."""
    pixels = load_pixels(path.read_bytes(), classifier.recipe.input)
    if isinstance(pixels, Problem):
        raise UserError(f"{path}: {pixels.detail}")
    shutil.copy(path, folder)
    floats = normalize(torch.from_numpy(pixels[None]), classifier.recipe.input.normalization)
    np.save(folder / f"{path.stem}.npy", floats[0].contiguous().numpy())
    logits = classifier.logits(pixels[None])
    probabilities, labels = classifier.probabilities(pixels[None])[0], classifier.labels
    answer = {
        "predictions": top_k(probabilities, labels, checked_top_k(None, len(labels))),
        "logits": logits[0].tolist(),
    }
    (folder / f"{path.stem}.json").write_bytes(msgspec.json.encode(answer))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m edge.bundle", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    with loaded(find_archive(f"{arguments.model}-torchscript", arguments.store).path) as classifier:
        write_bundle(classifier, arguments.output)
    done(f"{arguments.output}")


if __name__ == "__main__":
    run(main)
