"""The model that the other servers serve answers as the archive that it was taken from."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.peers import SUBJECT
from benchmarks.peers.subject import subject_of
from scripts.archives.loaded import loaded
from scripts.archives.store import find_archive
from scripts.building.golden import photograph


@pytest.fixture
def archive(tiny_archive: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An archive, and a process that is to serve it as the other servers do."""
    from benchmarks.peers import model

    path = tiny_archive()
    monkeypatch.setattr(model, "keep_memory", lambda: None)  # for the life of a process
    with subject_of(find_archive(str(path), Path())) as subject:
        monkeypatch.setenv(SUBJECT, str(subject))
        model.set_up.cache_clear()
        yield path
        model.set_up.cache_clear()


@pytest.mark.slow
def test_its_answers_are_the_archives(archive: Path) -> None:
    from benchmarks.peers.model import Model, Preparation

    pictures = [photograph("chelsea.png"), photograph("coffee.png")]
    prepare = Preparation()
    with pictures[0].open("rb") as file:
        prepared = [prepare(file), prepare(Image.open(pictures[1]))]
    answers = Model()(prepared)
    with loaded(archive) as classifier:
        expected = classifier.classify([path.read_bytes() for path in pictures], [5, 5])
    for found, predictions in zip(answers, expected, strict=True):
        assert isinstance(predictions, list)
        assert found == pytest.approx({item.full_name: item.probability for item in predictions}, abs=1e-2)
        assert list(found.values()) == sorted(found.values(), reverse=True)
