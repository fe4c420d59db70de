from pathlib import Path

import pytest

from scripts.building.golden import photograph
from scripts.console import UserError
from scripts.predicting import demo
from scripts.predicting.demo import comparison
from scripts.torchserve.client import Client
from tests.unit.conftest import Answer, FakeTorchServe, described, predicted

NAMES = "GET /models?next_page_token=0"


@pytest.fixture
def two_models(torchserve: FakeTorchServe) -> FakeTorchServe:
    """A server with a trained model of two versions and an untrained one."""
    torchserve.answers = {
        NAMES: [Answer({"models": [{"modelName": "vgg16"}, {"modelName": "tiny"}]})],
        "GET /models/vgg16/all": [Answer([described("1.0", "READY", model="vgg16")])],
        "GET /models/tiny/all": [Answer([described("1.0", "READY"), described("2.0", "READY")])],
        "POST /predictions/vgg16": [Answer(predicted("vgg16", "untrained"))],
        "POST /predictions/tiny": [Answer(predicted())],
    }
    return torchserve


def test_the_table_shows_what_each_model_sees_and_what_its_weights_are_worth(two_models: FakeTorchServe) -> None:
    table = comparison(Client(two_models.addresses), b"picture", ["vgg16", "tiny"], "cat.png")
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows == [
        ("vgg16", "1.0", "untrained", "star", "62.5%"),
        ("", "", "", "square", "25.0%"),
        ("tiny", "1.0", "tiny-trained", "star", "62.5%"),
        ("", "", "", "square", "25.0%"),
    ]


def show(torchserve: FakeTorchServe, monkeypatch: pytest.MonkeyPatch, image: Path | None = None) -> None:
    """Run the program against the fake server."""
    monkeypatch.setattr(demo, "running", lambda _: torchserve.server)
    demo.show(Path("state"), image)


def test_a_model_of_one_class_or_none_has_its_lines_too(torchserve: FakeTorchServe) -> None:
    one, none = predicted(), predicted()
    one["predictions"] = [{"class_id": "1", "class_name": "菖蒲", "probability": 1.0}]
    none["predictions"] = []
    torchserve.answers = {"POST /predictions/few": [Answer(one)], "POST /predictions/none": [Answer(none)]}
    table = comparison(Client(torchserve.addresses), b"picture", ["few", "none"], "iris.png")
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert [row[3:] for row in rows] == [("菖蒲", "100.0%"), ("none", "")]
    assert {asked.headers["X-Top-K"] for asked in torchserve.asked} == {None}  # five classes may be too many


def test_the_picture_may_be_the_users_own(
    two_models: FakeTorchServe, monkeypatch: pytest.MonkeyPatch, flowers: Path
) -> None:
    show(two_models, monkeypatch, flowers / "rose/0.png")
    assert {asked.body for asked in two_models.asked if asked.body} == {(flowers / "rose/0.png").read_bytes()}
    with pytest.raises(UserError, match=r"none\.png: No such file"):
        show(two_models, monkeypatch, flowers / "none.png")


def test_the_demo_sends_one_photograph_to_every_model_once(
    two_models: FakeTorchServe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show(two_models, monkeypatch)
    pictures = [asked for asked in two_models.asked if asked.what.startswith("POST")]
    assert [asked.what for asked in pictures] == ["POST /predictions/tiny", "POST /predictions/vgg16"]
    assert {asked.body for asked in pictures} == {photograph(demo.PICTURE).read_bytes()}
    shown = capsys.readouterr().out
    assert "untrained" in shown
    assert f"make predict MODEL=tiny IMAGE={photograph(demo.PICTURE)}" in shown


def test_a_model_that_fails_is_one_clear_line(two_models: FakeTorchServe, monkeypatch: pytest.MonkeyPatch) -> None:
    del two_models.answers["POST /predictions/vgg16"]
    with pytest.raises(UserError, match="Model not found"):
        show(two_models, monkeypatch)


def test_a_server_without_models_is_one_clear_line(torchserve: FakeTorchServe, monkeypatch: pytest.MonkeyPatch) -> None:
    torchserve.answers[NAMES] = [Answer({"models": []})]
    with pytest.raises(UserError, match="no model"):
        show(torchserve, monkeypatch)
