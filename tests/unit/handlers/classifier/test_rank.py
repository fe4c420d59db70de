import numpy as np
import pytest
from classifier.labels import Label
from classifier.rank import Prediction, probabilities, top_k

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
