"""Draw what in a picture speaks for a class: `make explain IMAGE=…`."""

import argparse
from pathlib import Path

from classifier.explain import METHODS, explain, overlay
from classifier.problems import Problem

from scripts.archives.loaded import loaded
from scripts.archives.store import find_archive
from scripts.console import UserError, done, run


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m scripts.predicting.explain", description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--archive", default="vgg16", help="name or path of an archive of the store")
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--target", help="class id or index; default: the likeliest class")
    parser.add_argument("--method", choices=METHODS, help="default: grad_cam for eager archives, occlusion for others")
    parser.add_argument("--output", type=Path, default=Path("explanation.png"))
    arguments = parser.parse_args()
    with loaded(find_archive(arguments.archive, arguments.store).path) as classifier:
        try:
            found = explain(classifier, arguments.image.read_bytes(), arguments.target, arguments.method)
            picture = overlay(found)
            picture.resize((2 * picture.width, 2 * picture.height)).save(arguments.output)
        except Problem as problem:
            raise UserError(f"{arguments.image}: {problem.title}: {problem.detail}") from problem
        except (OSError, ValueError) as error:
            raise UserError(str(error)) from error
    best = found.prediction
    done(f"{arguments.output}: {best.class_id} {best.class_name}, {best.probability:.1%}, by {found.method}")


if __name__ == "__main__":
    run(main)
