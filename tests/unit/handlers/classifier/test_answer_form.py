import msgspec
import pytest
from classifier.answer_form import VARIABLE, answer_form
from classifier.errors import UnusableError
from classifier.recipe import Recipe, read_recipe

from tests.conftest import TINY_RECIPE


@pytest.fixture
def recipe() -> Recipe:
    return read_recipe(TINY_RECIPE)


def test_the_form_is_the_recipes_unless_the_server_says_otherwise(recipe: Recipe) -> None:
    stock = msgspec.structs.replace(recipe, answers="stock")
    assert [answer_form(recipe, {}), answer_form(stock, {"ANSWERS": "full"})] == ["full", "stock"]
    assert [answer_form(recipe, {VARIABLE: "stock"}), answer_form(stock, {VARIABLE: "full"})] == ["stock", "full"]


@pytest.mark.parametrize("said", ["", "recipe", "STOCK"])
def test_any_other_form_is_refused(recipe: Recipe, said: str) -> None:
    with pytest.raises(UnusableError, match=f"CLASSIFIER_ANSWERS={said}: expected full or stock"):
        answer_form(recipe, {VARIABLE: said})
