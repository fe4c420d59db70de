"""Writes the files that a program in another language needs of a model: `make bundle`.

They are `model.pt` (TorchScript), `bundle.json` (the recipe's constants, the labels, the model's identity) and golden
vectors: photographs, the tensor that each must become, and the answer that it must get.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from classifier.input import Input
from classifier.normalization import normalize
from classifier.pipeline import Classifier, load_pixels
from classifier.problems import Problem
from classifier.rank import top_k
from classifier.recipe import Recipe
from classifier.service import checked_top_k

from scripts.archives.loaded import loaded
from scripts.archives.store import STORE, find_archive, model_in
from scripts.building.make import ensure
from scripts.console import UserError, done
from scripts.measuring.labelled import trial_pictures

MODEL_FILE: Final = "model.pt"
BUNDLE_FILE: Final = "bundle.json"


def write_bundle(classifier: Classifier, folder: Path, pictures: Sequence[Path]) -> None:
    """Write the bundle of a loaded TorchScript archive, with golden vectors of those pictures."""
    write_facts(classifier, folder, pictures)
    shutil.copy(classifier.source.path, folder / MODEL_FILE)


def write_facts(classifier: Classifier, folder: Path, pictures: Sequence[Path]) -> None:
    """Write the files that do not depend on the language: `bundle.json` and the golden vectors.

    Raises:
        UserError: programs in other languages cannot make the model's input; nothing is written then.
    """
    facts = msgspec.json.format(msgspec.json.encode(constants(classifier)), indent=1)
    (folder / "golden").mkdir(parents=True, exist_ok=True)
    (folder / BUNDLE_FILE).write_bytes(facts + b"\n")
    for path in pictures:
        write_golden(classifier, path, folder / "golden")


def constants(classifier: Classifier) -> dict[str, object]:
    """The constants of a model, which programs read instead of having copies."""
    spec = _plain_input(classifier.recipe)
    to_unit = 255 * spec.statistics.scale  # the programs first scale levels to 0…1
    return {
        "model": classifier.identity.model,
        "weights_sha256": classifier.identity.weights_sha256,
        "input": {
            "resize": spec.scaled[0],
            "crop": spec.size[0],
            "interpolation": spec.interpolation,
            "mean": [value / to_unit for value in spec.mean],
            "std": [value / to_unit for value in spec.std],
            "max_pixels": spec.max_pixels,
        },
        "labels": classifier.labels,
    }


def _plain_input(recipe: Recipe) -> Input:
    """The recipe's input, if the programs in other languages can make it: they were not written for every one.

    Raises:
        UserError: they cannot; the message names what they lack.
    """
    spec = recipe.input
    lacking = [
        name
        for name, there in (
            (f"fit: {spec.fit}", spec.fit == "crop"),
            ("a rectangular crop", spec.size[0] == spec.size[1]),
            (f"crop_offset: {spec.crop_offset}", spec.crop_offset == "round"),
            (f"channels: {spec.channels}", spec.channels == "rgb"),
            (f"interpolation: {spec.interpolation}", spec.interpolation in ("bilinear", "bicubic")),
            (f"layout: {spec.layout}", spec.layout == "nchw"),
            (f"scores: {recipe.scores}", recipe.scores == "softmax"),
        )
        if not there
    ]
    if lacking:
        raise UserError(f"{recipe.name}: the programs in other languages lack {', '.join(lacking)} of its recipe")
    return spec


def write_golden(classifier: Classifier, path: Path, folder: Path) -> None:
    """Write a photograph, its float32 tensor [3,H,W] (`.npy`), and its logits and likeliest classes (`.json`)."""
    pixels = load_pixels(path.read_bytes(), classifier.recipe.input)
    if isinstance(pixels, Problem):
        raise UserError(f"{path}: {pixels.detail}")
    shutil.copy(path, folder)
    floats = normalize(torch.from_numpy(pixels[None]), classifier.recipe.input)
    np.save(folder / f"{path.stem}.npy", floats[0].contiguous().numpy())
    logits = classifier.logits(pixels[None])
    probabilities, labels = classifier.probabilities(pixels[None])[0], classifier.labels
    answer = {
        "predictions": top_k(probabilities, labels, checked_top_k(None, len(labels))),
        "logits": logits[0].tolist(),
    }
    (folder / f"{path.stem}.json").write_bytes(msgspec.json.encode(answer))


def main(
    *, model: str | None = None, golden: Path | None = None, output: Path | None = None, store: Path = STORE
) -> None:
    """Write what programs in other languages need of the model.

    Args:
        model: name of the model; without it, the one model that lies in the store.
        golden: folder of pictures for the golden vectors; photographs of scikit-image without it.
        output: folder to write; `bundles/<model>` without it.
        store: folder of the archives.
    """
    name = model or model_in(store)
    folder = output or Path("bundles") / name
    ensure(name, ("torchscript", "float32"), store=store)
    with loaded(find_archive(f"{name}-torchscript", store).path) as classifier:
        write_bundle(classifier, folder, trial_pictures(classifier, golden))
    done(f"{folder}")
