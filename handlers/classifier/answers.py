"""The types of the contract's answers: they are encoded as they are, and `docs/openapi.json` is made from them.

The answer that reports a problem is `ProblemAnswer` in problems.py; the tensors of KServe's protocol are in v2.py.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from classifier.identity import Model
from classifier.input import Input
from classifier.problems import Problem, ProblemAnswer
from classifier.rank import Prediction
from classifier.recipe import Answers

Share = Annotated[float, Meta(ge=0, le=1)]


class InstanceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model sees in one of several pictures."""

    class_: str | None = msgspec.field(name="class")  # id and name of the likeliest class; null if none is answered
    probability: Share | None
    predictions: list[Prediction]  # likeliest first; empty if no class reaches the recipe's threshold


class Answer(InstanceAnswer, frozen=True, kw_only=True):
    """What the model sees in one picture."""

    model: Model


Item = InstanceAnswer | ProblemAnswer


class InstancesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model sees in each of several pictures, in their order, or the problem of that picture."""

    instances: Annotated[Sequence[Item], Meta(min_length=1)]
    model: Model


class PredictionsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """As `InstancesAnswer`, in KServe's protocol v1."""

    predictions: Annotated[Sequence[Item], Meta(min_length=1)]
    model: Model


class Region(msgspec.Struct, frozen=True):
    """The part of the upright picture that the model saw, in its pixels."""

    left: float
    top: float
    right: float
    bottom: float


class ExplanationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Where in a picture the evidence for a class is: `heatmap` covers `region`, in rows from the top."""

    class_: str = msgspec.field(name="class")
    probability: Share
    method: str
    region: Region
    heatmap: list[list[Share]]
    model: Model


class ExplanationsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An explanation in KServe's protocol v1."""

    explanations: Annotated[list[ExplanationAnswer], Meta(min_length=1, max_length=1)]


class DescriptionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a client may want to know about the model before it sends pictures."""

    model: Model
    weights_sha256: str
    classes: int
    input: Input
    max_instances: int  # pictures in one request
    formats: Sequence[str]  # Pillow's names
    answers: Answers  # the form of predictions and explanations


def answer_of(predictions: list[Prediction], model: Model) -> Answer:
    """The answer to one picture: its predictions, likeliest first, and the model that made them."""
    class_, probability = _best(predictions)
    return Answer(class_=class_, probability=probability, predictions=predictions, model=model)


def instances_answer_of(results: Sequence[list[Prediction] | Problem], model: Model) -> InstancesAnswer:
    """The answer to several pictures, from the predictions or the problem of each."""
    return InstancesAnswer(instances=[_item(result) for result in results], model=model)


def predictions_answer_of(results: Sequence[list[Prediction] | Problem], model: Model) -> PredictionsAnswer:
    """As `instances_answer_of`, in KServe's protocol v1."""
    return PredictionsAnswer(predictions=[_item(result) for result in results], model=model)


def _item(result: list[Prediction] | Problem) -> Item:
    if isinstance(result, Problem):
        return result.answer()
    class_, probability = _best(result)
    return InstanceAnswer(class_=class_, probability=probability, predictions=result)


def _best(predictions: list[Prediction]) -> tuple[str | None, float | None]:
    """Name and probability of the likeliest class that is answered."""
    return (predictions[0].full_name, predictions[0].probability) if predictions else (None, None)
