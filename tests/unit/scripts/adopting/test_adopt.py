import errno
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from scripts.adopting.adopt import main
from scripts.console import UserError
from tests.unit.scripts.adopting.conftest import NET, Project

EAGER = {"modelFile": "model.py", "serializedFile": "best.pth"}


def test_what_was_assumed_is_printed_and_what_to_type_next(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.adopt(project.saved(project.net()), architecture="adopted_net:Net", name="blumen")
    said = capsys.readouterr()
    assert "assumed input: the usual of ImageNet" in said.err
    assert "assumed labels: numbers, because nothing names the classes" in said.err
    assert said.out.endswith(
        f"Next:\n  PYTHONPATH={project.handlers} make archives MODEL=blumen RECIPES={project.recipes}\n"
        "  make serve MODELS=blumen-eager\n"
    )


def test_labels_are_the_users(project: Project) -> None:
    path = project.saved(project.net(classes=3))
    labels = project.folder / "labels.txt"
    labels.write_text("Gänseblümchen\nRose\nRose\n")
    project.adopt(path, architecture="adopted_net:Net", labels=str(labels))
    assert project.raw("flowers")["labels"] == ["Gänseblümchen", "Rose", "Rose"]
    labels.write_text("n01,daisy\nn02,rose\nn03,tulip\n")
    project.adopt(
        path, architecture="adopted_net:Net", labels=str(labels.rename(labels.with_suffix(".csv"))), force=True
    )
    assert json.loads((project.recipes / "flowers.labels.json").read_text())[1] == {
        "class_id": "n02", "class_name": "rose",
    }  # fmt: skip
    labels.write_text("a\nb\n")
    with pytest.raises(UserError, match="there are 2 labels, but the model has 3 classes"):
        project.adopt(path, architecture="adopted_net:Net", labels=str(labels), name="other")
    with pytest.raises(UserError, match="there are 1000 labels, but the model has 3 classes"):
        project.adopt(path, architecture="adopted_net:Net", labels="imagenet1k", name="other")


def test_a_thousand_classes_are_taken_for_imagenets(project: Project) -> None:
    recipe = project.adopt(project.saved(project.net(classes=1000)), architecture="adopted_net:Net")
    assert recipe.labels == "imagenet1k"
    assert "# Assumed: 1000 classes, taken for ImageNet's in their usual order" in project.text("flowers")


def test_a_recipe_is_replaced_only_if_that_is_asked_for(project: Project) -> None:
    path = project.saved(project.net())
    project.adopt(path, architecture="adopted_net:Net")
    text = project.text("flowers")
    (project.recipes / "flowers.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"flowers\.yaml is there already, with other content: pass NAME=<another>"):
        project.adopt(path, architecture="adopted_net:Net")
    assert project.text("flowers") == "mine"
    project.adopt(path, architecture="adopted_net:Net", force=True)
    assert project.text("flowers") == text
    assert [item.name for item in project.recipes.iterdir()] == ["flowers.yaml"]


@pytest.mark.parametrize("source", ["nowhere.pth", "torchvision:", "transformers:ViT", "vgg16"])
def test_what_is_not_there_is_refused_with_what_may_be(project: Project, source: str) -> None:
    with pytest.raises(UserError, match="there is no such file or folder; it may be torchvision:<model>, timm:<model>"):
        project.adopt(source)


def test_a_name_that_cannot_be_is_refused_with_one_that_can(project: Project) -> None:
    with pytest.raises(UserError, match="NAME=my-net: names have letters, digits and _, for example my_net"):
        project.adopt(project.saved(project.net()), architecture="adopted_net:Net", name="my-net")


def test_a_model_of_a_library_is_an_architecture_already(project: Project) -> None:
    with pytest.raises(UserError, match="leave ARCHITECTURE= out"):
        project.adopt("torchvision:vgg16", architecture="net")


def test_files_are_written_all_or_none(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"model.py": NET.encode(), "best.pth": project.saved(project.net()).read_bytes()}
    archive = project.archive(files | {"index_to_name.json": b'["a", "b", "c", "d", "e"]'}, **EAGER)
    whole = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if ".yaml." in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, content)

    before = sorted(project.handlers.iterdir())
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        project.adopt(archive)
    assert list(project.recipes.iterdir()) == []
    assert sorted(project.handlers.iterdir()) == before


def test_of_two_adoptions_of_one_name_at_once_the_second_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project.saved(project.net())
    refused: list[str] = []

    def adopt_another() -> None:
        with pytest.raises(UserError) as caught:
            main(**common, labels=str(labels))
        refused.append(str(caught.value))

    labels = project.folder / "labels.txt"
    labels.write_text("a\nb\nc\nd\ne\n")
    common: dict[str, Any] = {
        "from_": str(path),
        "architecture": "adopted_net:Net",
        "recipes": project.recipes,
        "handlers": project.handlers,
    }
    other, waits, whole = threading.Thread(target=adopt_another), threading.Event(), Path.replace

    def replace(part: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", whole)
        other.start()
        while other.is_alive() and not waits.wait(0.01):  # until it waits, or has come to its end
            pass
        return whole(part, target)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr("scripts.turns.step", lambda text: waits.set() if "waiting" in text else None)
    main(**common)
    other.join()
    assert len(refused) == 1
    assert "is there already, with other content" in refused[0]
    assert project.raw("flowers")["labels"] == ["0", "1", "2", "3", "4"]
    assert [item.name for item in project.recipes.iterdir()] == ["flowers.yaml"]
