import numpy as np
import pytest
from classifier.labels import Label
from classifier.rank import Prediction, probabilities, top_k
from classifier.recipe import Scores

LABELS = [Label(f"n{index}", name) for index, name in enumerate(("cat", "dog", "cow"))]


def test_probabilities_are_the_softmax_and_sum_to_one() -> None:
    result = probabilities(np.array([[0.0, 1.0, 2.0]], np.float16))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [[0.0900, 0.2447, 0.6652]], atol=1e-4, rtol=0)
    assert result.sum() == pytest.approx(1, abs=1e-6)


def test_each_picture_has_probabilities_of_its_own() -> None:
    logits = np.array([[0, 1, 2], [5, 5, 5]], np.float32)
    np.testing.assert_allclose(probabilities(logits), [[0.0900, 0.2447, 0.6652], [1 / 3] * 3], atol=1e-4, rtol=0)


@pytest.mark.parametrize("precision", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("offset", [-60_000, 60_000])
def test_logits_of_any_size_have_probabilities(precision: type[np.floating], offset: float) -> None:
    result = probabilities(np.array([[offset, 0]], precision))
    assert result.dtype == np.float32
    assert result.tolist() == [[1, 0] if offset > 0 else [0, 1]]


def test_the_logits_stay_as_they_were() -> None:
    logits = np.array([[0, 1, 2]], np.float32)
    probabilities(logits)
    assert logits.tolist() == [[0, 1, 2]]


def test_top_k_is_ordered_and_carries_id_and_name() -> None:
    ranked = top_k(np.array([0.25, 0.125, 0.625], np.float32), LABELS, 2)
    assert ranked == [Prediction("n2", "cow", 0.625), Prediction("n0", "cat", 0.25)]


def test_of_equally_likely_classes_the_first_label_comes_first() -> None:
    ranked = top_k(np.array([0.25, 0.5, 0.25], np.float32), LABELS, 3)
    assert [item.class_name for item in ranked] == ["dog", "cat", "cow"]


@pytest.mark.parametrize("classes", [1, 2, 3, 50])
def test_the_first_k_are_those_of_all_classes_in_their_order(classes: int) -> None:
    labels = [Label(str(index), "") for index in range(classes)]
    numbers = np.random.default_rng(0)
    for _ in range(50):
        row = np.float32(0.125) * numbers.integers(0, 5, classes).astype(np.float32)  # so many are equal
        every = top_k(row, labels, classes)
        assert [item.class_id for item in every] == [str(index) for index in np.argsort(-row, kind="stable")]
        for k in range(1, classes):
            assert top_k(row, labels, k) == every[:k]


def test_with_sigmoid_each_class_has_a_probability_of_its_own() -> None:
    logits = np.array([[-2.0, 0.0, 3.0], [5.0, 5.0, 5.0]], np.float16)
    result = probabilities(logits, "sigmoid")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [[0.1192, 0.5, 0.9526], [0.9933] * 3], atol=1e-4, rtol=0)


@pytest.mark.parametrize("logit", [-1e4, -1e38, 1e4, 1e38])
def test_the_sigmoid_of_any_number_is_a_probability(logit: float) -> None:
    assert probabilities(np.array([[logit]], np.float32), "sigmoid").tolist() == [[0.0 if logit < 0 else 1.0]]


@pytest.mark.parametrize("scores", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_gives_no_probability_that_could_be_taken_for_one(scores: Scores, value: float) -> None:
    result = probabilities(np.array([[value, value]], np.float32), scores)
    assert not np.isfinite(result).any()


def test_probabilities_stay_as_they_are_where_the_model_gives_them() -> None:
    given = np.array([[0.25, 0.75]], np.float16)
    result = probabilities(given, "none")
    assert (result.dtype, result.tolist()) == (np.dtype(np.float32), [[0.25, 0.75]])


@pytest.mark.parametrize(
    ("threshold", "names"),
    [(None, ["cow", "cat", "dog"]), (0.0, ["cow", "cat", "dog"]), (0.5, ["cow", "cat"]), (0.6, ["cow"]), (0.9, [])],
)
def test_below_the_threshold_no_class_is_answered(threshold: float | None, names: list[str]) -> None:
    row = np.array([0.5, 0.125, 0.625], np.float32)
    assert [item.class_name for item in top_k(row, LABELS, 3, threshold)] == names


def test_what_is_exactly_at_the_threshold_is_answered_and_top_k_still_counts() -> None:
    row = np.array([0.1, 0.3, 0.2], np.float32)  # none of which float32 has exactly
    assert [item.class_name for item in top_k(row, LABELS, 3, 0.1)] == ["dog", "cow", "cat"]
    assert [item.class_name for item in top_k(row, LABELS, 1, 0.1)] == ["dog"]
