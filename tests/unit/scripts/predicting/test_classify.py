import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.console import UserError
from scripts.predicting.classify import main


def test_a_picture_is_classified_without_a_server(
    tiny_archive: Callable[..., Path],
    tmp_path: Path,
    cat: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "cat.png").write_bytes(cat)
    store = tiny_archive().parent
    main(tmp_path / "cat.png", archive="tiny", store=store, top_k=2)
    said = capsys.readouterr().out
    assert "tiny 1.0 · eager float32 · weights: tiny-trained" in " ".join(said.split())
    assert said.count("%") == 2


@pytest.mark.parametrize(("content", "says"), [(b"no picture", "The body is not a picture"), (None, "No such file")])
def test_what_cannot_be_classified_says_why(
    tiny_archive: Callable[..., Path],
    tmp_path: Path,
    content: bytes | None,
    says: str,
) -> None:
    if content is not None:
        (tmp_path / "picture").write_bytes(content)
    with pytest.raises(UserError, match=says):
        main(tmp_path / "picture", archive="tiny", store=tiny_archive().parent)


def test_the_archive_of_a_path_is_loaded_and_not_the_stores_of_that_name(
    tiny_archive: Callable[..., Path], tmp_path: Path, cat: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cat.png").write_bytes(cat)
    elsewhere = tmp_path / "tiny-eager-1.0.mar"
    shutil.copy(tiny_archive("torchscript"), elsewhere)
    main(tmp_path / "cat.png", archive=str(elsewhere), store=tiny_archive().parent)
    assert "torchscript float32" in " ".join(capsys.readouterr().out.split())
