from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from scripts.console import UserError
from scripts.measuring.parity import compare_archives, table


@pytest.fixture
def store(few_archive: Callable[..., Path]) -> Path:
    """Two archives of the model of three classes."""
    few_archive("torchscript")
    return few_archive("eager").parent


def test_the_archives_of_a_model_of_three_classes_are_compared_on_the_users_pictures(
    store: Path, tmp_path: Path
) -> None:
    for number, colour in enumerate(((200, 10, 10), (10, 200, 10))):
        Image.new("RGB", (70, 50), colour).save(tmp_path / f"{number}.png")
    eager, torchscript = compare_archives("few", store, 3, tmp_path)
    assert (eager.views, torchscript.views) == (6, 6)
    assert (torchscript.agreement, torchscript.golden_agreement) == (1.0, 1.0)
    assert torchscript.max_abs_logit < 1e-5
    assert "6 views" in str(table([eager, torchscript]).columns[2].header)


def test_without_pictures_of_the_user_there_are_views_of_five_photographs(store: Path) -> None:
    eager, *_ = compare_archives("few", store, 1)
    assert eager.views == 5


def test_no_views_at_all_are_refused(store: Path) -> None:
    with pytest.raises(UserError, match="VIEWS=0"):
        compare_archives("few", store, 0)
