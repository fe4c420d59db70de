from pathlib import Path

import pytest
from classifier.labels import Label
from classifier.pipeline import Classifier
from classifier.problems import ImageBroken
from classifier.rank import Prediction

from scripts.card.evaluation import Answers, Share, evaluate, summary
from scripts.measuring.evaluate import Labelled

LABELS = [Label(name, name.upper()) for name in "abcdefg"]


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (8, 10, 0.4902, 0.9433), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)],
)
def test_intervals_are_wilsons(count: int, total: int, low: float, high: float) -> None:
    """The expected figures are those of SciPy: `binomtest(count, total).proportion_ci(method="wilson")`."""
    assert Share(count, total).interval == pytest.approx((low, high), abs=1e-4)


@pytest.fixture
def picture(tmp_path: Path, cat: bytes) -> Path:
    path = tmp_path / "cat.png"
    path.write_bytes(cat)
    return path


def answer(*classes: str, probability: float = 0.6) -> list[Prediction]:
    rest = (1 - probability) / max(1, len(classes) - 1)
    return [Prediction(name, name.upper(), probability if place == 0 else rest) for place, name in enumerate(classes)]


def test_mistakes_are_counted_by_pair_and_by_class(picture: Path) -> None:
    given: list[tuple[str, Answers]] = [
        ("a", answer("a", "b")),
        ("a", answer("b", "a", probability=0.6)),
        ("a", answer("b", "c", probability=0.9)),
        ("b", answer("c", "b")),
        ("b", ImageBroken("truncated")),
        ("c", []),  # no class reaches the threshold
    ]
    found = summary([Labelled(picture, name) for name, _ in given], [item for _, item in given], LABELS)
    assert (found.top1, found.top5) == (Share(1, 6), Share(3, 6))
    assert (found.unreadable, found.unanswered) == (1, 1)
    pairs = [(pair.truth.class_id, pair.answer.class_id, pair.count) for pair in found.confusions]
    assert pairs == [("a", "b", 2), ("b", "c", 1)]
    assert [mistake.probability for mistake in found.confusions[0].mistakes] == [0.9, 0.6]
    assert all(mistake.thumbnail for pair in found.confusions for mistake in pair.mistakes)
    assert [(item.label.class_id, item.top1, item.top5) for item in found.classes] == [
        ("b", Share(0, 2), Share(1, 2)),
        ("c", Share(0, 1), Share(0, 1)),
        ("a", Share(1, 3), Share(2, 3)),
    ]
    assert (found.right, found.wrong) == ([0.6], [0.6, 0.9, 0.6])


def test_top5_of_five_classes_says_nothing(picture: Path) -> None:
    assert summary([Labelled(picture, "a")], [answer("a")], LABELS[:5]).top5 is None
    assert summary([Labelled(picture, "a")], [answer("a")], LABELS[:6]).top5 == Share(1, 1)


def test_only_the_most_frequent_pairs_and_the_surest_mistakes_are_shown(picture: Path) -> None:
    pairs = [(truth, wrong) for truth in "abcd" for wrong in "efg"]
    given = pairs + [("a", "e")] * 7
    answers = [answer(wrong, probability=0.5 + row / 100) for row, (_, wrong) in enumerate(given)]
    found = summary([Labelled(picture, truth) for truth, _ in given], answers, LABELS)
    assert (len(found.confusions), found.further_confusions) == (10, 2)
    assert found.confusions[0].count == 8
    assert [mistake.probability for mistake in found.confusions[0].mistakes] == pytest.approx(
        [0.5 + row / 100 for row in range(18, 12, -1)]
    )


def test_a_model_is_evaluated_as_it_answers(tiny: Classifier, picture: Path, cat: bytes) -> None:
    (found,) = tiny.classify([cat], [2])
    assert isinstance(found, list)
    first, second = (item.class_id for item in found)
    result = evaluate(tiny, [Labelled(picture, first), Labelled(picture, second)])
    assert (result.top1, result.top5) == (Share(1, 2), Share(2, 2))
    assert [(pair.truth.class_id, pair.answer.class_id) for pair in result.confusions] == [(second, first)]
