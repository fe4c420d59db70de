"""Draws which parts of a picture speak for a class: `make explain IMAGE=…`."""

from pathlib import Path

from classifier.explain import Method, explain, overlay
from classifier.problems import Problem
from PIL import Image

from scripts.archives.loaded import loaded
from scripts.archives.store import STORE, chosen_archive
from scripts.console import UserError, done


def main(
    image: Path,
    *,
    archive: str | None = None,
    model: str | None = None,
    target: str | None = None,
    method: Method | None = None,
    output: Path = Path("explanation.png"),
    store: Path = STORE,
) -> None:
    """Draw which parts of a picture speak for a class.

    Args:
        image: the picture.
        archive: name or path of an archive; without it, the eager archive of the model.
        model: name of the model; without it, the one model that lies in the store.
        target: id or index of the class; the likeliest class without it.
        method: the method; without it, grad_cam for eager archives and occlusion for others.
        output: the picture to write.
        store: folder of the archives.
    """
    if output.resolve() == image.resolve():
        raise UserError(f"OUTPUT={output} is the picture itself; name another file")
    if output.suffix.lower() not in Image.registered_extensions():
        raise UserError(f"OUTPUT={output}: name a picture to write, for example explanation.png")
    output.parent.mkdir(parents=True, exist_ok=True)
    with loaded(chosen_archive(archive, model, store).path) as classifier:
        try:
            found = explain(classifier, image.read_bytes(), target, method)
            picture = overlay(found)
            picture.resize((2 * picture.width, 2 * picture.height)).save(output)
        except Problem as problem:
            raise UserError(f"{image}: {problem.title}: {problem.detail}") from problem
        except (OSError, ValueError) as error:
            raise UserError(str(error)) from error
    best = found.prediction
    done(f"{output}: {best.class_id} {best.class_name}, {best.probability:.1%}, by {found.method}")
