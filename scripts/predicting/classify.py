"""Classifies a picture in this process, without a server: `make classify IMAGE=…`."""

from pathlib import Path

import msgspec
from classifier.api import ImageClassifier
from classifier.problems import Problem

from scripts.archives.loaded import loaded
from scripts.archives.store import STORE, chosen_archive
from scripts.console import UserError, out
from scripts.predicting.predict import answer_table


def main(
    image: Path,
    *,
    archive: str | None = None,
    model: str | None = None,
    top_k: int | None = None,
    store: Path = STORE,
) -> None:
    """Classify a picture without a server.

    Args:
        image: the picture.
        archive: name or path of an archive; without it, the eager archive of the model.
        model: name of the model; without it, the one model that lies in the store.
        top_k: number of classes to show; 5 without it.
        store: folder of the archives.
    """
    with loaded(chosen_archive(archive, model, store).path) as core:
        try:
            predictions = ImageClassifier(core)(image, top_k)
        except Problem as problem:
            raise UserError(f"{image}: {problem.title}: {problem.detail}") from problem
        except OSError as error:
            raise UserError(f"{image}: {error.strerror}") from error
    answer = {"predictions": predictions, "model": core.identity.model}
    out.print(answer_table(msgspec.to_builtins(answer)), soft_wrap=False)
