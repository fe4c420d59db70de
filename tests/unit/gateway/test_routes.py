from pathlib import Path

import pytest

from gateway.routes import ModelRoutes, Routes, Shadow, Sticky, parse_weights, read_routes, set_weights
from scripts.console import UserError

WHOLE = """
# who gets what
models:
  cats:
    versions: {1.0: 95, "2.0": 5}   # the new one, since Monday
    sticky: {cookie: who}
    shadow: {version: 3.0, percent: 12.5}
predict: cats
replicas: [10.0.0.11:8080]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "routes.yaml"


def test_a_version_is_a_text_with_and_without_quotes(path: Path) -> None:
    path.write_text(WHOLE)
    cats = ModelRoutes({"1.0": 95, "2.0": 5}, Sticky(cookie="who"), Shadow("3.0", 12.5))
    assert read_routes(path).routes == Routes({"cats": cats}, "cats", ["10.0.0.11:8080"])


@pytest.mark.parametrize("text", ["", "# nothing yet\n", None])
def test_a_file_without_content_has_no_routes(path: Path, text: str | None) -> None:
    if text is not None:
        path.write_text(text)
    assert read_routes(path).routes == Routes()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("models: [", "is not YAML"),
        ("model: {}", "unknown field `model`"),
        ("models: {cats: {versions: {}}}", r"length >= 1 - at `\$\.models"),
        ("models: {cats: {versions: {1.0: 0}}}", "all weights are 0"),
        ("models: {cats: {versions: {1.0: -1}}}", ">= 0"),
        ("models: {cats: {versions: {1.0: many}}}", r"Expected `int`"),
        ("models: {'../cats': {versions: {1.0: 1}}}", "matching regex"),
        ("models: {cats: {versions: {'1.0\"..': 1}}}", "matching regex"),
        ("models: {cats: {versions: {1.0: 1}, sticky: {}}}", "either `header` or `cookie`"),
        ("models: {cats: {versions: {1.0: 1}, sticky: {header: 'x: y'}}}", "matching regex"),
        ("models: {cats: {versions: {1.0: 1}, shadow: {version: 2.0, percent: 101}}}", "<= 100"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(path: Path, text: str, why: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=rf"routes\.yaml.*{why}"):
        read_routes(path)


def test_new_weights_leave_comments_and_all_else(path: Path) -> None:
    path.write_text(WHOLE)
    before = read_routes(path)
    after = set_weights(path, "cats", {"1.0": 50, "2.0": 50})
    assert after.routes.models["cats"].versions == {"1.0": 50, "2.0": 50}
    assert after.routes.models["cats"].shadow == before.routes.models["cats"].shadow
    assert (after.routes.predict, after.routes.replicas) == (before.routes.predict, before.routes.replicas)
    assert "# who gets what" in path.read_text()
    assert after.digest != before.digest


def test_old_versions_stay_before_new_ones(path: Path) -> None:
    set_weights(path, "cats", {"1.10": 5, "1.9": 95})
    assert list(read_routes(path).routes.models["cats"].versions) == ["1.9", "1.10"]
    set_weights(path, "cats", {"1.8": 1, "2.0": 1, "1.10": 1})
    assert list(read_routes(path).routes.models["cats"].versions) == ["1.10", "1.8", "2.0"]


def test_a_file_is_made_when_it_is_missing(path: Path) -> None:
    set_weights(path.parent / "new" / path.name, "cats", {"1.0": 1})
    assert read_routes(path.parent / "new" / path.name).routes.models["cats"].versions == {"1.0": 1}


@pytest.mark.parametrize("weights", [{"1.0": 0}, {"a b": 1}])
def test_weights_without_sense_change_nothing(path: Path, weights: dict[str, int]) -> None:
    path.write_text(WHOLE)
    with pytest.raises(UserError):
        set_weights(path, "cats", weights)
    assert path.read_text() == WHOLE
    assert list(path.parent.iterdir()) == [path]


def test_weights_are_words() -> None:
    assert parse_weights(("1.0=95", "2.0=5")) == {"1.0": 95, "2.0": 5}


@pytest.mark.parametrize("words", [("1.0",), ("1.0=",), ("1.0=5%",), ("1.0=-5",), ("1.0=1", "1.0=2")])
def test_what_are_no_weights_is_said(words: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"expected <version>=<weight>|has two weights"):
        parse_weights(words)
