"""A third classifier, added by one recipe and one module, and nothing else: built in every format, served, asked."""

from pathlib import Path

import pytest

from scripts.archives.format import SUFFIX, Format
from scripts.serving.manage import register
from scripts.torchserve.client import Client
from scripts.torchserve.server import CONSOLE_LOG
from tests.integration.conftest import make, serving

FOLDER = Path("tests/third_model")


@pytest.mark.parametrize(
    "archive_format",
    ["zip-store", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("tgz", "no-archive"))],
)
def test_one_recipe_and_one_module_make_a_served_model(
    tmp_path: Path, tiny_weights: Path, cat: bytes, archive_format: Format
) -> None:
    where = ("MODEL=tiny", f"RECIPES={FOLDER}", f"WEIGHTS={tiny_weights}", f"STORE={tmp_path / 'store'}")
    built = make("archive", *where, f"FORMAT={archive_format}", environment={"PYTHONPATH": str(FOLDER)})
    assert built.returncode == 0, built.stderr
    suffix = SUFFIX[archive_format]
    names = ("tiny-eager-1.0", "tiny-torchscript-2.0")
    eager, torchscript = (tmp_path / "store" / f"{name}{suffix}" for name in names)
    state = tmp_path / "state"
    with serving(state, "tiny", store=tmp_path / "store") as server:
        client = Client(server.addresses)
        answer = client.predict(cat, "tiny")
        assert client.version("tiny", "1.0").workers == ["READY", "READY"]  # as its recipe says
        assert client.version("tiny", "1.0").archive == eager.name
        assert register(client, torchscript, state / CONSOLE_LOG) == ("tiny", "2.0")
        again = client.predict(cat, "tiny", version="2.0")
    assert answer["model"] == {
        "name": "tiny",
        "version": "1.0",
        "runtime": "eager",
        "precision": "float32",
        "weights": "tiny-trained",
    }
    assert again["model"]["runtime"] == "torchscript"
    assert [item["class_id"] for item in again["predictions"]] == [item["class_id"] for item in answer["predictions"]]
