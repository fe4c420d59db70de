"""The description of a model, for clients that ask before they send pictures."""

from classifier.answers import DescriptionAnswer
from classifier.decode import FORMATS
from classifier.pipeline import Classifier
from classifier.recipe import Answers
from classifier.responses import Response, json_response


def describe(classifier: Classifier, answers: Answers | None = None) -> Response:
    """What a client may want to know about the model before it sends pictures."""
    identity, recipe = classifier.identity, classifier.recipe
    return json_response(
        DescriptionAnswer(
            model=identity.model,
            weights_sha256=identity.weights_sha256,
            classes=len(classifier.labels),
            input=recipe.input,
            max_instances=recipe.serving.max_instances,
            formats=FORMATS,
            answers=answers or recipe.answers,
        )
    )
