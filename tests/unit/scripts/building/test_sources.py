"""Which files of the user's own an eager archive takes along."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from classifier.recipe import Recipe

from scripts.building.sources import architecture_digest, files, sources
from scripts.console import UserError

Write = Callable[[dict[str, str]], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write files into a folder that modules are imported from."""
    folder = tmp_path / "handlers"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def files(contents: dict[str, str]) -> None:
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return files


def recipe(architecture: str = "own_net", **fields: Any) -> Recipe:
    given = {"name": "own", "architecture": architecture, "weights": "own-0123abcd.pth", "labels": ["a", "b"]}
    return msgspec.convert(given | fields, Recipe)


def names(recipe: Recipe) -> list[str]:
    return [path.name for path in sources(recipe)]


def test_a_module_alone_is_packed_alone(write: Write) -> None:
    write({"own_net.py": "import os\nimport torch.nn as nn\nfrom numpy import array", "own_other.py": ""})
    assert names(recipe()) == ["own_net.py"]


@pytest.mark.parametrize(
    "imported",
    [
        "import own_helper",
        "import own_helper as helper",
        "from own_helper import thing",
        "from own_helper import *",
        "import os, own_helper",
        "def net():\n    import own_helper",
        "class Net:\n    def forward(self):\n        from own_helper import thing",
        "try:\n    import own_helper\nexcept ImportError:\n    own_helper = None",
        "if True:\n    from own_helper import thing",
    ],
)
def test_a_helper_is_found_however_it_is_imported(imported: str, write: Write) -> None:
    write({"own_net.py": imported, "own_helper.py": "thing = 1"})
    assert names(recipe()) == ["own_net.py", "own_helper.py"]
    assert names(recipe("own_net:Net")) == ["own_net.py", "own_helper.py"]


def test_helpers_of_helpers_are_found_and_those_that_import_each_other(write: Write) -> None:
    write({
        "own_net.py": "import own_first",
        "own_first.py": "import own_second",
        "own_second.py": "import own_first, own_net, own_third",
        "own_third.py": "",
        "own_stranger.py": "",
    })  # fmt: skip
    found = names(recipe())
    assert found[0] == "own_net.py"
    assert sorted(found[1:]) == ["own_first.py", "own_second.py", "own_third.py"]


@pytest.mark.parametrize("imported", ["import own_layers.blocks", "from own_layers import blocks", "import own_layers"])
@pytest.mark.parametrize("regular", [True, False], ids=["package", "namespace"])
def test_a_package_is_packed_whole_with_what_its_modules_import(imported: str, regular: bool, write: Write) -> None:
    write({
        "own_net.py": imported,
        "own_layers/blocks.py": "from . import more\nfrom .deep.down import deepest",
        "own_layers/more.py": "import own_helper",
        "own_layers/deep/down.py": "",
        "own_helper.py": "",
    })  # fmt: skip
    if regular:
        write({"own_layers/__init__.py": ""})
    assert names(recipe()) == ["own_net.py", "own_layers", "own_helper.py"]
    assert {path.name for path in files(recipe())} >= {"own_net.py", "blocks.py", "more.py", "down.py", "own_helper.py"}


def test_an_architecture_may_lie_in_a_package(write: Write) -> None:
    write({"own_nets/__init__.py": "", "own_nets/small.py": "import own_helper", "own_helper.py": ""})
    assert names(recipe("own_nets.small:Net")) == ["own_nets", "own_helper.py"]


def test_what_every_archive_has_is_not_packed_twice(write: Write) -> None:
    write({"own_net.py": "import classifier.pipeline\nimport image_classifier_handler\nimport scripts"})
    assert names(recipe()) == ["own_net.py"]


def test_what_lies_elsewhere_is_not_packed(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write({"own_net.py": "import own_elsewhere, json, numpy, no_such_module"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "own_elsewhere.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    assert names(recipe()) == ["own_net.py"]


def test_an_installed_architecture_is_not_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "lib" / "site-packages"
    folder.mkdir(parents=True)
    (folder / "own_installed.py").write_text("import own_beside")
    (folder / "own_beside.py").touch()
    monkeypatch.syspath_prepend(folder)
    assert sources(recipe("own_installed:Net")) == []
    assert sources(recipe("numpy:Net")) == []


@pytest.mark.parametrize("architecture", ["torchvision:resnet18", "timm:resnet18", "transformers:ViTModel"])
def test_a_librarys_architecture_has_no_sources(architecture: str) -> None:
    assert sources(recipe(architecture)) == files(recipe(architecture)) == []


def test_a_program_has_no_sources() -> None:
    program = recipe(architecture=None, weights=None, program="onnx:own-0123abcd.onnx")  # type: ignore[arg-type]
    assert sources(program) == []


@pytest.mark.parametrize("name", ["own_missing", "own_missing.small:Net", "sys"])
def test_an_architecture_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"there is no module {name.partition('.')[0]} in handlers/"):
        sources(recipe(name))


@pytest.mark.parametrize("broken", ["own_net.py", "own_helper.py"])
def test_a_source_that_cannot_be_parsed_is_named_with_its_line(broken: str, write: Write) -> None:
    write({"own_net.py": "import own_helper\n", "own_helper.py": ""})
    write({broken: "import own_helper\ndef net(:\n"})
    with pytest.raises(UserError, match=rf"{broken}:2: "):
        sources(recipe())


def test_the_digest_changes_with_the_name_the_arguments_and_any_file_and_with_nothing_else(write: Write) -> None:
    contents = {"own_net.py": "import own_layers", "own_layers/__init__.py": "", "own_layers/blocks.py": "a = 1"}
    contents |= {"own_layers/anchors.json": "[1]", "own_layers/tables/rates.csv": "1,2"}  # which the code may read
    write(contents)
    first = architecture_digest(recipe())
    write({"own_stranger.py": "", "own_layers/__pycache__/blocks.py": "", "own_layers/.hidden/notes.txt": ""})
    assert architecture_digest(recipe(labels=["c", "d"], arguments={})) == first
    others = [architecture_digest(recipe("own_net:Net")), architecture_digest(recipe(arguments={"depth": 2}))]
    for name in contents:
        write({name: contents[name] + "\nb = 2"})
        others.append(architecture_digest(recipe()))
        write(contents)
    assert len({first, *others}) == 8
