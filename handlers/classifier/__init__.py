"""The core: bytes of pictures in, predictions out. Knows nothing of any server.

from classifier import load

model = load("model_store/efficientnet_lite0-eager.mar")
print(model("cat.jpg")[0].class_name)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from classifier.api import ImageClassifier, load
    from classifier.problems import Problem
    from classifier.rank import Prediction

__all__ = ["ImageClassifier", "Prediction", "Problem", "load"]

_HOMES = {
    "ImageClassifier": "classifier.api",
    "Prediction": "classifier.rank",
    "Problem": "classifier.problems",
    "load": "classifier.api",
}


def __getattr__(name: str) -> object:
    """Import on first use: whoever wants a part of the core alone, a recipe say, does not wait a second for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
