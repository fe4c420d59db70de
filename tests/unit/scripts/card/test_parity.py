from pathlib import Path

import numpy as np
import pytest
from classifier.labels import Label
from classifier.pipeline import Classifier
from classifier.rank import probabilities
from msgspec.structs import replace

from scripts.archives.store import Archive, find_archive
from scripts.building.golden import photograph
from scripts.card.parity import differences, is_reference
from scripts.card.pictures import Outputs, read_samples


def test_the_reference_has_the_same_weights_in_float32_eager(pair: Path) -> None:
    eager, torchscript = (find_archive(name, pair) for name in ("tiny-eager", "tiny-torchscript"))
    assert is_reference(eager, torchscript)
    assert is_reference(eager, eager)
    assert not is_reference(torchscript, eager)
    retrained = Archive(torchscript.path, replace(torchscript.identity, weights_sha256="0" * 64))
    assert not is_reference(eager, retrained)


def test_each_picture_has_its_largest_difference_and_both_answers(tiny: Classifier, cat: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(cat[:1000])  # cannot be read: no row in the outputs
    paths = [tmp_path / "a.png", photograph("chelsea.png"), photograph("coffee.png")]
    samples = read_samples(paths, tiny)
    expected = np.zeros((2, 10), np.float32)
    expected[:, 3] = 1
    actual = expected.copy()
    actual[1, 7] = 2.5
    labels = [Label(f"c{index}", f"class {index}") for index in range(10)]
    found = differences(
        samples, Outputs(expected, probabilities(expected)), Outputs(actual, probabilities(actual)), labels
    )
    assert [(item.number, item.name, item.logit, item.same) for item in found] == [
        (2, "chelsea.png", 0.0, True),
        (3, "coffee.png", 2.5, False),
    ]
    assert (found[1].expected.label.class_id, found[1].actual.label.class_id) == ("c3", "c7")
    assert found[1].actual.probability == pytest.approx(float(probabilities(actual)[1, 7]))
    assert found[1].probability == pytest.approx(found[1].actual.probability - float(probabilities(expected)[1, 7]))
