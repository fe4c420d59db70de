import base64
import io
from pathlib import Path

import numpy as np
import pytest
from classifier.pipeline import Classifier
from PIL import Image

from scripts.card.pictures import SHOWN, outputs, read_samples, sample_paths, thumbnail
from scripts.console import UserError


def shown(address: str) -> Image.Image:
    head, _, content = address.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_a_thumbnail_is_the_whole_picture_upright(cat: bytes) -> None:
    address = thumbnail(cat)
    assert address is not None
    assert shown(address).size == (192, 128)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.open(io.BytesIO(cat)).convert("RGB").save(stream, "JPEG", exif=exif)
    turned = thumbnail(stream.getvalue())
    assert turned is not None
    assert shown(turned).size == (128, 192)


def test_samples_have_the_servers_answers_and_a_broken_one_its_problem(
    tiny: Classifier, cat: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a cat.png").write_bytes(cat)
    (tmp_path / "broken.png").write_bytes(cat[:1000])
    samples = read_samples(sorted(tmp_path.iterdir()), tiny)
    assert [(sample.number, sample.name) for sample in samples] == [(1, "a cat.png"), (2, "broken.png")]
    assert samples[0].answers == tiny.classify([cat], [5])[0]
    assert samples[0].problem is None
    assert samples[1].answers == []
    assert samples[1].problem is not None
    assert "truncated" in samples[1].problem
    assert samples[1].thumbnail is None
    found = outputs(samples, tiny)
    assert found.logits.shape == found.probabilities.shape == (1, 10)
    np.testing.assert_allclose(found.probabilities[0].max(), samples[0].answers[0].probability, atol=1e-6)


def test_of_many_pictures_the_first_are_shown(tmp_path: Path) -> None:
    for number in range(SHOWN + 3):
        (tmp_path / f"{number:03}.png").touch()
    paths, there = sample_paths(tmp_path)
    assert [path.name for path in paths] == [f"{number:03}.png" for number in range(SHOWN)]
    assert there == SHOWN + 3
    assert sample_paths(None)[1] == 21


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="PICTURES"):
        sample_paths(tmp_path)
