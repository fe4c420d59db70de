import json
import zipfile
from hashlib import sha256
from typing import Any

import pytest

from scripts.console import UserError
from tests.unit.scripts.adopting.conftest import NET, Project

LABELS = {"0": ["n01", "cat"], "1": ["n02", "dog"], "2": ["n03", "owl"], "3": ["n04", "fox"], "4": ["n05", "elk"]}
EAGER = {"modelFile": "model.py", "serializedFile": "best.pth"}


def eager(project: Project) -> dict[str, bytes]:
    return {
        "model.py": b"import parts\n" + NET.encode(),
        "parts.py": b"RATE = 1\n",
        "best.pth": project.saved(project.net()).read_bytes(),
        "index_to_name.json": json.dumps(LABELS).encode(),
    }


def test_an_eager_archive_gives_module_weights_and_labels(project: Project) -> None:
    files = eager(project)
    recipe = project.adopt(project.archive(files, **EAGER))
    assert (recipe.name, recipe.architecture, recipe.answers) == ("old", "old_net", "stock")
    digest = sha256(files["best.pth"]).hexdigest()
    assert recipe.weights == f"old-{digest[:8]}.pth#sha256={digest}"
    assert (project.recipes / f"old-{digest[:8]}.pth").read_bytes() == files["best.pth"]
    assert (project.handlers / "old_net.py").read_bytes() == files["model.py"]
    assert (project.handlers / "parts.py").read_bytes() == files["parts.py"]
    assert json.loads((project.recipes / "old.labels.json").read_text())[1] == {"class_id": "n02", "class_name": "dog"}
    assert recipe.input.scaled == (256, 256)


def test_none_of_its_code_runs(project: Project) -> None:
    mark = project.folder / "mark"
    files = eager(project) | {"model.py": f"open({str(mark)!r}, 'w')\n".encode()}
    project.adopt(project.archive(files, **EAGER))
    assert not mark.exists()


def test_a_torchscript_archive_gives_its_program(project: Project) -> None:
    content = project.traced(project.net("Squashed")).read_bytes()
    labels = json.dumps(LABELS).encode()
    recipe = project.adopt(
        project.archive({"best.pt": content, "index_to_name.json": labels}, serializedFile="best.pt"), name="newer"
    )
    assert recipe.name == "newer"
    assert (
        recipe.program == f"torchscript:newer-{sha256(content).hexdigest()[:8]}.pt#sha256={sha256(content).hexdigest()}"
    )
    assert recipe.scores == "softmax"  # as the stock handler does, whatever the model gives
    assert recipe.archives[0].runtime == "torchscript"


def test_requirements_with_versions_are_kept_and_others_said(project: Project) -> None:
    files = eager(project) | {"requirements.txt": b"einops==0.8.2\nnumpy>=1 # any\n"}
    recipe = project.adopt(project.archive(files, **EAGER, requirementsFile="requirements.txt"))
    assert recipe.requirements == ["einops==0.8.2"]
    assert "# Assumed: not needed, because no exact version is given: numpy>=1" in project.text("old")


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ({"handler": "handler.py", **EAGER}, "has the handler handler.py; only archives"),
        ({"serializedFile": "best.pth"}, "has a checkpoint but no model file"),
        ({"modelFile": "net.py", "serializedFile": "best.pth"}, "names modelFile net.py, which is not in the archive"),
        ({"modelFile": "model.py"}, "names serializedFile None"),
    ],
)
def test_what_an_archive_lacks_is_said(project: Project, model: dict[str, str], why: str) -> None:
    with pytest.raises(UserError, match=why):
        project.adopt(project.archive(eager(project), **model))
    assert list(project.recipes.iterdir()) == []


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "a/../../evil.py", "..\\evil.py"])
def test_names_that_lead_out_are_refused(project: Project, name: str) -> None:
    with pytest.raises(UserError, match="leads out of the archive"):
        project.adopt(project.archive(eager(project) | {name: b"x"}, **EAGER))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_name_twice_and_damage_are_refused(project: Project) -> None:
    path = project.archive(eager(project), **EAGER)
    whole = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model.py", "x = 1")
    with pytest.raises(UserError, match="two of its files have the same name"):
        project.adopt(path)
    path.write_bytes(whole.replace(b"RATE = 1", b"RATE = 2"))
    with pytest.raises(UserError, match="is damaged"):
        project.adopt(path)


def test_an_archive_without_labels_asks_for_them(project: Project) -> None:
    files = {name: content for name, content in eager(project).items() if name != "index_to_name.json"}
    with pytest.raises(UserError, match="nothing says what the classes are: pass LABELS="):
        project.adopt(project.archive(files, **EAGER))


def test_a_pickled_module_in_it_is_refused(project: Project) -> None:
    import torch

    torch.save(project.net(), project.folder / "whole.pt")
    files = eager(project) | {"best.pth": (project.folder / "whole.pt").read_bytes()}
    with pytest.raises(UserError, match="holds a pickled module"):
        project.adopt(project.archive(files, **EAGER))


def test_a_module_that_is_there_is_not_overwritten(project: Project) -> None:
    (project.handlers / "old_net.py").write_text("mine")
    path = project.archive(eager(project), **EAGER)
    with pytest.raises(UserError, match=r"old_net\.py is there already"):
        project.adopt(path)
    assert list(project.recipes.iterdir()) == []
    project.adopt(path, force=True)
    assert (project.handlers / "old_net.py").read_text() != "mine"


@pytest.mark.parametrize("key", ["modelName", "modelFile", "serializedFile", "requirementsFile", "handler"])
def test_a_manifest_whose_names_are_no_names_is_refused(project: Project, key: str) -> None:
    model: dict[str, Any] = EAGER | {key: ["x"]}
    with pytest.raises(UserError, match=rf"MANIFEST\.json has {key} \['x'\], which is no name"):
        project.adopt(project.archive(eager(project), **model))


def test_a_deeply_nested_manifest_is_refused(project: Project) -> None:
    path = project.folder / "old.mar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", "[" * 100_000)
    with pytest.raises(UserError, match="says nothing of a model"):
        project.adopt(path)


def test_a_damaged_compressed_file_is_said(project: Project) -> None:
    path = project.folder / "old.mar"
    manifest = json.dumps({"model": EAGER | {"modelName": "old", "handler": "image_classifier"}})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("MAR-INF/MANIFEST.json", manifest)
        archive.writestr("best.pth", bytes(1000))
        start = archive.getinfo("best.pth").header_offset + 30 + len("best.pth")
    content = bytearray(path.read_bytes())
    content[start : start + 2] = b"\xff\xff"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"old\.mar is damaged: "):
        project.adopt(path)


@pytest.mark.parametrize("name", ["parts.py", "classifier.py", "image_classifier_handler.py"])
def test_a_module_of_another_model_or_of_the_project_is_never_replaced(project: Project, name: str) -> None:
    (project.handlers / "parts.py").write_text("OF = 'another model'\n")
    files = {key: item for key, item in eager(project).items() if key != "parts.py"}
    with pytest.raises(UserError, match=rf"brings {name}, but .* has another module of that name"):
        project.adopt(project.archive(files | {name: b"RATE = 1\n"}, **EAGER), force=True)
    assert (project.handlers / "parts.py").read_text() == "OF = 'another model'\n"


def test_a_module_called_as_the_model_file_will_be_does_not_replace_it(project: Project) -> None:
    files = eager(project) | {"old_net.py": b"RATE = 1\n"}
    with pytest.raises(UserError, match=r"has a module old_net\.py, as the model file will be called: pass NAME="):
        project.adopt(project.archive(files, **EAGER))
    assert project.adopt(project.archive(files, **EAGER), name="newer").architecture == "newer_net"
