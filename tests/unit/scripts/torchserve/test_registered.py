import json
from pathlib import Path

import pytest

from scripts.torchserve import registered as module
from scripts.torchserve.config import write_config
from scripts.torchserve.registered import is_registered, registered
from scripts.torchserve.server import SNAPSHOTS
from tests.unit.conftest import Answer, FakeTorchServe, described


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of a server that has ended, with two snapshots."""
    folder = tmp_path / "state"
    (folder / SNAPSHOTS).mkdir(parents=True)
    write_config({"model_store": str(tmp_path / "store")}, folder / "config.properties")
    for number, names in enumerate((("tiny-eager-1.0.mar", "tiny-eager-1.1.mar"), ("tiny-eager-1.1.mar",))):
        models = {"tiny": {str(version): {"marName": name} for version, name in enumerate(names)}}
        write_config({"model_snapshot": json.dumps({"models": models})}, folder / SNAPSHOTS / f"{number}.cfg")
    return folder


def test_where_no_server_was_started_none_has_anything(tmp_path: Path) -> None:
    assert registered(tmp_path) == set()


def test_a_server_that_has_ended_has_what_the_next_one_gets_back(state: Path, tmp_path: Path) -> None:
    """That is in the newest snapshot; in older ones there may be what was unregistered since."""
    assert registered(state) == {tmp_path / "store" / "tiny-eager-1.1.mar"}
    assert is_registered(tmp_path / "store" / "tiny-eager-1.1.mar", state)
    assert not is_registered(tmp_path / "store" / "tiny-eager-1.0.mar", state)
    assert not is_registered(tmp_path / "elsewhere" / "tiny-eager-1.1.mar", state)


def test_a_server_that_had_no_model_has_none(state: Path) -> None:
    write_config({"model_snapshot": json.dumps({"models": {}})}, state / SNAPSHOTS / "9.cfg")
    assert registered(state) == set()


def test_a_running_server_is_asked(
    state: Path, tmp_path: Path, torchserve: FakeTorchServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find", lambda _: torchserve.server)
    torchserve.answers = {
        "GET /models?next_page_token=0": [Answer({"models": [{"modelName": "tiny"}]})],
        "GET /models/tiny/all": [Answer([described("2.0"), described("3.0")])],
    }
    assert registered(state) == {tmp_path / "store" / name for name in ("tiny-eager-2.0.mar", "tiny-eager-3.0.mar")}
