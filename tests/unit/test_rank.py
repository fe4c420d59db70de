import torch
from classifier.labels import Label
from classifier.rank import Prediction, probabilities, top_k

LABELS = [Label(f"n{index}", name) for index, name in enumerate(("cat", "dog", "cow"))]


def test_probabilities_are_the_softmax_and_sum_to_one() -> None:
    result = probabilities(torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.bfloat16))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.tensor([[0.0900, 0.2447, 0.6652]]), atol=1e-4, rtol=0)


def test_top_k_is_ordered_and_carries_id_and_name() -> None:
    ranked = top_k(torch.tensor([0.25, 0.125, 0.625]), LABELS, 2)
    assert ranked == [Prediction("n2", "cow", 0.625), Prediction("n0", "cat", 0.25)]
