"""A third classifier, added by one recipe and one module, and nothing else: built, served, asked."""

from pathlib import Path

from scripts.client import Client
from tests.integration.conftest import make, serving


def test_one_recipe_and_one_module_make_a_served_model(tmp_path: Path, tiny_weights: Path, cat: bytes) -> None:
    folder = Path("tests/third_model")
    built = make(
        *(
            "archive",
            "MODEL=tiny",
            f"RECIPES={folder}",
            "RUNTIME=eager",
            f"WEIGHTS={tiny_weights}",
            f"STORE={tmp_path}",
        ),
        environment={"PYTHONPATH": str(folder)},  # where its module is; a user puts it into handlers/
    )
    assert built.returncode == 0, built.stderr
    with serving(tmp_path / "state", "tiny", store=tmp_path) as server:
        client = Client(server.addresses)
        answer = client.predict(cat, "tiny")
        assert client.version("tiny", "1.0").workers == ["READY", "READY"]  # as its recipe says
    assert len(answer["predictions"]) == 5
    assert answer["model"] == {
        "name": "tiny",
        "version": "1.0",
        "runtime": "eager",
        "precision": "float32",
        "weights": "tiny-trained",
    }
