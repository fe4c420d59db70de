"""How right an archive is on labelled pictures: shares with their intervals, confusions, classes."""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import msgspec
from classifier.labels import Label
from classifier.pipeline import Classifier
from classifier.problems import Problem
from classifier.rank import Prediction

from scripts.card.pictures import TOP, thumbnail
from scripts.console import progress
from scripts.measuring.evaluate import Labelled

_BATCH: Final = 32  # pictures decoded at a time
_CONFUSIONS: Final = 10  # pairs of classes on the page
_THUMBNAILS: Final = 6  # of a pair
_Z: Final = NormalDist().inv_cdf(0.975)  # two-sided, 95 %


class Share(msgspec.Struct, frozen=True):
    """A share of pictures."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """From 0 to 1."""
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval by Wilson (1927), which holds for few pictures and near 0 and 1 too."""
        p, n = self.value, self.total
        middle = p + _Z**2 / (2 * n)
        reach = _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        low, high = ((middle + sign * reach) / (1 + _Z**2 / n) for sign in (-1, 1))
        return max(0.0, low), min(1.0, high)


class Mistake(msgspec.Struct, frozen=True):
    """A picture that was taken for another class, with the probability of that."""

    name: str
    probability: float
    thumbnail: str | None


class Confusion(msgspec.Struct, frozen=True):
    """How often pictures of one class were taken for another; the surest mistakes come first."""

    truth: Label
    answer: Label
    count: int
    mistakes: list[Mistake]


class ClassScore(msgspec.Struct, frozen=True):
    """The shares of one class's pictures."""

    label: Label
    top1: Share
    top5: Share


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The result of classifying labelled pictures. A picture without an answer counts as wrong."""

    top1: Share
    top5: Share | None  # None if the model has no more classes than that
    unreadable: int
    unanswered: int  # by a model with a threshold
    confusions: list[Confusion]
    further_confusions: int  # pairs that are not among them
    classes: list[ClassScore]
    right: list[float]  # the probabilities of the first answers that are right
    wrong: list[float]


Answers = list[Prediction] | Problem


def evaluate(classifier: Classifier, pictures: Sequence[Labelled]) -> Evaluation:
    """Classify labelled pictures, with a progress bar."""
    answers: list[Answers] = []
    top = min(TOP, len(classifier.labels))
    with progress("labelled pictures", len(pictures)) as advance:
        for start in range(0, len(pictures), _BATCH):
            bodies = [item.path.read_bytes() for item in pictures[start : start + _BATCH]]
            answers += classifier.classify(bodies, [top] * len(bodies))
            advance(len(bodies))
    return summary(pictures, answers, classifier.labels)


def summary(pictures: Sequence[Labelled], answers: Sequence[Answers], labels: Sequence[Label]) -> Evaluation:
    """Count what is right and what was confused with what."""
    pairs = list(zip(pictures, answers, strict=True))
    answered = [(item, answer) for item, answer in pairs if not isinstance(answer, Problem) and answer]
    first = [_rank(item, answer) == 0 for item, answer in pairs]
    among = [_rank(item, answer) is not None for item, answer in pairs]
    by_id = {label.class_id: label for label in reversed(labels)}
    confusions = _confusions(answered)
    return Evaluation(
        top1=Share(sum(first), len(pairs)),
        top5=Share(sum(among), len(pairs)) if len(labels) > TOP else None,
        unreadable=sum(isinstance(answer, Problem) for answer in answers),
        unanswered=sum(answer == [] for answer in answers),
        confusions=[
            _confusion(by_id[truth], by_id[answer], found) for (truth, answer), found in confusions[:_CONFUSIONS]
        ],
        further_confusions=max(0, len(confusions) - _CONFUSIONS),
        classes=_classes(pictures, first, among, by_id),
        right=[answer[0].probability for item, answer in answered if answer[0].class_id == item.class_id],
        wrong=[answer[0].probability for item, answer in answered if answer[0].class_id != item.class_id],
    )


def _rank(item: Labelled, answer: Answers) -> int | None:
    """The place of the right class among the answers, from 0; None if it is not one of them."""
    if isinstance(answer, Problem):
        return None
    return next((place for place, found in enumerate(answer) if found.class_id == item.class_id), None)


_Found = list[tuple[Labelled, float]]  # mistakes, with their probabilities


def _confusions(answered: Sequence[tuple[Labelled, list[Prediction]]]) -> list[tuple[tuple[str, str], _Found]]:
    """The mistakes by the ids of the true class and of the answer, the most frequent pair first."""
    found = defaultdict[tuple[str, str], _Found](list)
    for item, answer in answered:
        if answer[0].class_id != item.class_id:
            found[item.class_id, answer[0].class_id].append((item, answer[0].probability))
    return sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0]))


def _confusion(truth: Label, answer: Label, found: _Found) -> Confusion:
    surest = sorted(found, key=lambda mistake: -mistake[1])[:_THUMBNAILS]
    shown = [Mistake(item.path.name, probability, thumbnail(item.path.read_bytes())) for item, probability in surest]
    return Confusion(truth, answer, len(found), shown)


def _classes(
    pictures: Sequence[Labelled], first: Sequence[bool], among: Sequence[bool], labels: dict[str, Label]
) -> list[ClassScore]:
    """The classes that have pictures, the worst first."""
    rows = defaultdict[str, list[int]](list)
    for row, item in enumerate(pictures):
        rows[item.class_id].append(row)
    scores = [
        ClassScore(
            labels[class_id],
            Share(sum(first[row] for row in own), len(own)),
            Share(sum(among[row] for row in own), len(own)),
        )
        for class_id, own in rows.items()
    ]
    return sorted(scores, key=lambda score: (score.top1.value, score.label.class_name))
