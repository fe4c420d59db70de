"""Pictures with the answers of the model at hand: what a trial expects comes from the archive that it tries.

Any model can be tried, whatever its classes are and however few: an expectation is the answer of that very archive, in
this process, to the picture that is sent.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from classifier.pipeline import Classifier
from classifier.problems import Problem
from classifier.rank import Prediction
from classifier.recipe import Precision

from scripts.building.golden import objects
from scripts.console import UserError

# How far a probability may be from that of the same archive in this process. Other sizes of batches change the last
# digits; in a lower precision, which rounds them, the digits before.
_TOLERANCES: Final[dict[Precision, float]] = {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.05, "int8": 0.05}


class Expected(msgspec.Struct, frozen=True):
    """The answer that a picture must get."""

    classes: dict[str, float]  # the likeliest class, and those as likely within the tolerance: field `class` of answers
    tolerance: float  # of the probability, absolute

    def fits(self, name: str, probability: float) -> bool:
        """Whether an answer with this likeliest class and probability is the expected one."""
        return name in self.classes and abs(probability - self.classes[name]) <= self.tolerance

    def __str__(self) -> str:
        return " or ".join(f"{name or 'no class'} {probability:.1%}" for name, probability in self.classes.items())


def expected(classifier: Classifier, picture: bytes) -> Expected | Problem:
    """The answer of a loaded archive to a picture, alone in its batch; or the problem that it reports."""
    found = _ranked(classifier, picture)
    if isinstance(found, Problem):
        return found
    tolerance = _TOLERANCES[classifier.identity.model.precision]
    if not found:  # no class reaches the recipe's threshold
        return Expected({"": 0.0}, tolerance)
    near = [item for item in found if found[0].probability - item.probability <= tolerance]
    return Expected({item.full_name: item.probability for item in near}, tolerance)


def trial_pictures(classifier: Classifier, folder: Path | None = None) -> list[Path]:
    """The pictures to try a model with, the user's own or photographs of scikit-image, in the order of `surest`.

    Raises:
        UserError: the folder has no pictures, or the model answers none of them.
    """
    return surest(classifier, objects(folder))


def surest(classifier: Classifier, pictures: Sequence[Path]) -> list[Path]:
    """Pictures by how sure a model is of them: of each class that it sees in them the surest, then the others.

    So the first of them are no near ties, and show whether an answer belongs to another picture.

    Args:
        classifier: the loaded archive.
        pictures: the pictures; those that the model cannot answer are left out.

    Raises:
        UserError: the model answers none of them; the message has the first reason.
    """
    answers = {path: _ranked(classifier, path.read_bytes()) for path in pictures}
    margins = {path: _margin(found) for path, found in answers.items() if not isinstance(found, Problem)}
    if not margins:
        path, problem = next((path, found) for path, found in answers.items() if isinstance(found, Problem))
        raise UserError(f"the model answers none of {len(answers)} pictures; {path}: {problem.detail}")
    classes, first, others = set[str](), list[Path](), list[Path]()
    for path in sorted(margins, key=lambda each: -margins[each]):
        found = answers[path]
        name = found[0].full_name if not isinstance(found, Problem) and found else ""
        (others if name in classes else first).append(path)
        classes.add(name)
    return [*first, *others]


def _ranked(classifier: Classifier, picture: bytes) -> list[Prediction] | Problem:
    """All classes, likeliest first."""
    (found,) = classifier.classify([picture], [len(classifier.labels)])
    return found


def _margin(found: list[Prediction]) -> float:
    """How much likelier the first class is than the second."""
    probabilities = [item.probability for item in found[:2]] + [0.0, 0.0]
    return probabilities[0] - probabilities[1]
