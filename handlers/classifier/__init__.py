"""The core: pictures in, predictions out. It knows nothing of any server.

from classifier import load

model = load("model_store/efficientnet_lite0-eager-1.0.mar")
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
    """Import a name on first use: a program that needs only recipes, for example, does not wait a second for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
