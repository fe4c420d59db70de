"""The identity of a model: the fields that every answer carries, and the files of an archive that hold them."""

from pathlib import Path
from typing import Final

import msgspec

from classifier.errors import DECODE_ERRORS, UnusableError
from classifier.recipe import Precision, RuntimeName

UNTRAINED: Final = "untrained"  # the name of seeded weights that were never trained

IDENTITY_FILE: Final = "identity.json"
RECIPE_FILE: Final = "recipe.yaml"
LABELS_FILE: Final = "labels.json"
PARITY_FILE: Final = "parity.json"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """The `model` object of an answer."""

    name: str
    version: str
    runtime: RuntimeName
    precision: Precision
    weights: str  # the name of the training, or UNTRAINED


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive says about itself: the model, and the file that its runtime loads."""

    model: Model
    weights_sha256: str  # of the file of weights, or the program, that the archive was built from
    serialized_file: str  # in the archive, for the runtime
    requirements: list[str] = []  # packages that a worker imports for it, beyond those of every worker of its runtime


def read_identity(directory: Path) -> Identity:
    """Read the identity of an unpacked archive.

    Raises:
        UnusableError: the file is not an identity.
        OSError: there is no such file, so the directory is not an archive of this project.
    """
    path = directory / IDENTITY_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Identity)
    except DECODE_ERRORS as error:
        raise UnusableError(f"{path}: {error}") from error


def write_identity(identity: Identity, directory: Path) -> None:
    """Write the identity into a directory that becomes an archive."""
    (directory / IDENTITY_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(identity)))
