"""The form of a server's answers: the recipe's, unless the server's own setting replaces it."""

from collections.abc import Mapping
from typing import Final, get_args

from classifier.errors import UnusableError
from classifier.recipe import Answers, Recipe

FORMS: Final[tuple[Answers, ...]] = get_args(Answers)
# A worker gets the server's setting from its environment: workers that TorchServe starts again inherit it as well.
VARIABLE: Final = "CLASSIFIER_ANSWERS"


def answer_form(recipe: Recipe, environment: Mapping[str, str]) -> Answers:
    """The form of the answers of a model.

    Args:
        recipe: the model's recipe.
        environment: the variables of the process; `CLASSIFIER_ANSWERS` wins over the recipe, if it is set.

    Raises:
        UnusableError: the variable names no form.
    """
    said = environment.get(VARIABLE)
    if said is None:
        return recipe.answers
    for form in FORMS:
        if form == said:
            return form
    raise UnusableError(f"{VARIABLE}={said}: expected {' or '.join(FORMS)}")
