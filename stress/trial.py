"""What a model is tried with: good and hostile bodies, each with the answer of the very archive that is tried."""

import contextlib
from pathlib import Path
from typing import Final, NamedTuple

from scripts.archives.loaded import loaded
from scripts.archives.store import Archive, archives_in, find_archive, read_archive_identity
from scripts.console import UserError, step
from scripts.measuring.labelled import trial_pictures
from scripts.torchserve.client import Client
from stress.hostile.corpus import corpus
from stress.questions import Body, answered, good, known

# The archives to try first. OpenVINO's idle threads sleep; those of other runtimes wait busily, so replicas that share
# cores would slow each other, as they would not on machines of their own.
_PREFERRED: Final = ("openvino int8", "openvino float32", "openvino bfloat16", "onnxruntime float32")


class Trial(NamedTuple):
    """The bodies for one archive."""

    friendly: list[Body]
    hostile: list[Body]


def friendly_bodies(archive: Archive, golden: Path | None = None) -> list[Body]:
    """Good pictures, the user's own or photographs of scikit-image, with the archive's own answers.

    Raises:
        UserError: the archive cannot be loaded, or it answers none of the pictures.
    """
    with loaded(archive.path) as classifier:
        return answered(known(classifier, good(trial_pictures(classifier, golden))))


def trial(archive: Archive, golden: Path | None = None) -> Trial:
    """Good pictures as `friendly_bodies`, and the hostile corpus, for this model's limits.

    Raises:
        UserError: as `friendly_bodies`.
    """
    step(f"asking {archive.path.name} in this process what it must answer")
    with loaded(archive.path) as classifier:
        friendly = answered(known(classifier, good(trial_pictures(classifier, golden))))
        hostile = corpus(classifier.recipe.input.max_pixels, classifier.recipe.serving.max_instances)
        return Trial(friendly, known(classifier, hostile))


def served_archive(client: Client, model: str, store: Path) -> Archive:
    """The archive in the store of the version that a running server answers with.

    Raises:
        UserError: it does not lie in that store, or another version lies there in its place.
    """
    version = client.answering(model)
    archive = find_archive(version.archive, store)
    if archive.identity.model.version != version.version:
        raise UserError(
            f"{archive.path} is version {archive.identity.model.version}, but the server answers with "
            f"{version.version}; pass STORE=<the server's model store>"
        )
    return archive


def archives_to_try(model: str, store: Path, number: int) -> list[Archive]:
    """Archives of a model in the store, each a version of its own; in a runtime that spares the other processes first.

    Raises:
        UserError: there are not so many.
    """
    found = {}
    for path in archives_in(store):
        with contextlib.suppress(UserError):  # a broken one, or one that was not built by `make archive`
            identity = read_archive_identity(path)
            if identity.model.name == model:
                found[identity.model.version] = Archive(path, identity)
    chosen = sorted(found.values(), key=_rank)[:number]
    if len(chosen) < number:
        raise UserError(
            f"this takes {number} {'versions' if number > 1 else 'version'} of {model}, and {store} has "
            f"{len(chosen)}; `make archives MODEL={model}` builds all that its recipe has"
        )
    return chosen


def _rank(archive: Archive) -> tuple[int, list[int]]:
    model = archive.identity.model
    kind = f"{model.runtime} {model.precision}"
    preference = _PREFERRED.index(kind) if kind in _PREFERRED else len(_PREFERRED)
    return preference, [-int(part) for part in model.version.split(".")]  # of one kind the newest
