"""Which model is meant when none is named."""

from pathlib import Path

import pytest

from scripts.console import UserError
from scripts.torchserve import chosen
from scripts.torchserve.chosen import chosen_model
from tests.unit.conftest import Answer, FakeTorchServe, described


@pytest.fixture
def running(torchserve: FakeTorchServe, monkeypatch: pytest.MonkeyPatch) -> FakeTorchServe:
    """A fake TorchServe that the state folder knows."""
    monkeypatch.setattr(chosen, "find", lambda _: torchserve.server)
    return torchserve


def serves(torchserve: FakeTorchServe, *models: str) -> None:
    torchserve.answers["GET /models?next_page_token=0"] = [
        Answer({"models": [{"modelName": model, "modelUrl": "x.mar"} for model in models]})
    ]
    for model in models:
        torchserve.answers[f"GET /models/{model}/all"] = [Answer([described("1.0", "READY", model=model)])]


def test_the_one_model_that_runs_is_meant(running: FakeTorchServe, tmp_path: Path) -> None:
    serves(running, "mine")
    assert chosen_model(None, tmp_path, tmp_path) == "mine"
    assert chosen_model("other", tmp_path, tmp_path) == "other"


def test_of_several_that_run_none_is_guessed(running: FakeTorchServe, tmp_path: Path) -> None:
    serves(running, "tri", "fruit")
    with pytest.raises(UserError, match=r"several models run \(fruit, tri\); pass MODEL="):
        chosen_model(None, tmp_path, tmp_path)


def test_vgg16_among_several_is_meant(running: FakeTorchServe, tmp_path: Path) -> None:
    serves(running, "tri", "vgg16")
    assert chosen_model(None, tmp_path, tmp_path) == "vgg16"
