"""Classify pictures in this process, without any server: `make classify IMAGE=…`."""

import argparse
from pathlib import Path

import msgspec
from classifier.api import ImageClassifier
from classifier.problems import Problem

from scripts.archives.loaded import loaded
from scripts.archives.store import find_archive
from scripts.console import UserError, out, run
from scripts.predicting.predict import answer_table


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m scripts.predicting.classify", description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--archive", default="vgg16", help="name or path of an archive of the store")
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--top-k", type=int)
    arguments = parser.parse_args()
    with loaded(find_archive(arguments.archive, arguments.store).path) as core:
        try:
            predictions = ImageClassifier(core)(arguments.image, arguments.top_k)
        except Problem as problem:
            raise UserError(f"{arguments.image}: {problem.title}: {problem.detail}") from problem
        except OSError as error:
            raise UserError(f"{arguments.image}: {error.strerror}") from error
    answer = {"predictions": predictions, "model": core.identity.model}
    out.print(answer_table(msgspec.to_builtins(answer)), soft_wrap=False)


if __name__ == "__main__":
    run(main)
