import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from classifier.recipe import Recipe, read_recipe

from scripts.adopting.adopt import main
from scripts.console import UserError
from tests.unit.scripts.adopting.conftest import Project

Dot = Callable[..., Path]
AdoptDot = Callable[..., Recipe]


def test_the_number_of_classes_comes_from_the_last_layer(project: Project) -> None:
    path = project.saved(project.net(classes=3))
    recipe = project.adopt(path, architecture="adopted_net:Net")
    assert recipe.arguments == {"num_classes": 3}
    assert recipe.labels == ["0", "1", "2"]
    assert recipe.name == "flowers"


def test_entry_and_prefix_are_written_down(project: Project) -> None:
    state = {f"module.{name}": item for name, item in project.net().state_dict().items()}
    torch.save({"epoch": 1, "ema&co": state}, project.folder / "x.pth")
    recipe = project.adopt(project.folder / "x.pth", architecture="adopted_net:Net")
    assert recipe.weights is not None
    assert recipe.weights.endswith("&entry=ema%26co&prefix=module.")
    assert recipe.arguments == {}


def test_of_two_that_fit_the_user_chooses(project: Project) -> None:
    state = project.net().state_dict()
    path = project.folder / "x.pth"
    torch.save({"model": state, "ema": {name: item + 1 for name, item in state.items()}}, path)
    with pytest.raises(UserError, match=r"2 state_dicts that fit; choose one, for example .*x\.pth#entry=…"):
        project.adopt(path, architecture="adopted_net:Net")
    recipe = project.adopt(f"{path}#entry=ema", architecture="adopted_net:Net")
    assert recipe.weights is not None
    assert recipe.weights.endswith("&entry=ema")
    with pytest.raises(UserError, match="what follows # must be entry=…, prefix=…"):
        project.adopt(f"{path}#ema", architecture="adopted_net:Net", force=True)
    with pytest.raises(UserError, match="no entry 'emma'; it has 'model', 'ema'"):
        project.adopt(f"{path}#entry=emma", architecture="adopted_net:Net", force=True)


def test_other_weights_are_refused_with_how_near_they_are(project: Project) -> None:
    torch.save({"fc.weight": torch.zeros(5, 9)}, project.folder / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth does not fit adopted_net:Net: 0 of the architecture's 4 names fit"):
        project.adopt(project.folder / "x.pth", architecture="adopted_net:Net")


@pytest.mark.parametrize(
    ("architecture", "why"),
    [
        ("nowhere:Net", "there is no handlers/nowhere.py"),
        ("adopted_net:Nut", r"adopted_net has no class or function Nut; did you mean Net\?"),
        ("adopted_net", "must define exactly one nn.Module class"),
    ],
)
def test_an_architecture_that_is_not_there_is_said(project: Project, architecture: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        project.adopt(project.saved(project.net()), architecture=architecture)


@pytest.mark.parametrize(
    ("kind", "scores", "why"),
    [
        ("Net", "softmax", None),
        ("Faint", "softmax", None),
        ("Squashed", "none", "# Assumed: the model's outputs sum to one on every picture tried"),
        ("Several", "none", "# Assumed: the model's outputs lie between 0 and 1 on every picture tried"),
    ],
)
def test_outputs_that_are_probabilities_are_found(project: Project, kind: str, scores: str, why: str | None) -> None:
    recipe = project.adopt(project.saved(project.net(kind)), architecture=f"adopted_net:{kind}")
    assert recipe.scores == scores
    assert (why or "") in project.text("flowers")
    assert ("# Assumed: the model" in project.text("flowers")) == (why is not None)


NAMED_OTHERWISE = """
from torch import nn


class Dot(nn.Module):
    def __init__(self, classes=4, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 3)
        self.fc = nn.Linear(2, classes)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3))) * 30
"""


@pytest.fixture
def dots(tmp_path: Path) -> Path:
    """A folder of architectures that nothing but HANDLERS= names."""
    folder = tmp_path / "nets"
    folder.mkdir()
    (folder / "dots_net.py").write_text(NAMED_OTHERWISE)
    return folder


@pytest.fixture
def dot(dots: Path, project: Project) -> Dot:
    """Saves the weights of that architecture, built with these arguments."""

    def saved(**arguments: int) -> Path:
        return project.saved(runpy.run_path(str(dots / "dots_net.py"))["Dot"](**arguments), "dot.pth")

    return saved


@pytest.fixture
def adopt_dot(project: Project, dots: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdoptDot]:
    """Adopts a checkpoint of it."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def adopted(checkpoint: Path, arguments: str | None = None) -> Recipe:
        source, recipes = str(checkpoint), project.recipes
        main(from_=source, architecture="dots_net", arguments=arguments, recipes=recipes, handlers=dots)
        return read_recipe(project.recipes / "dot.yaml")

    yield adopted
    sys.modules.pop("dots_net", None)


def test_an_architecture_gets_the_arguments_that_are_given(adopt_dot: AdoptDot, dot: Dot) -> None:
    recipe = adopt_dot(dot(classes=7), "{classes: 7}")
    assert recipe.arguments == {"classes": 7}
    assert len(recipe.labels) == 7


def test_who_needs_arguments_reads_how_to_pass_them(adopt_dot: AdoptDot, dot: Dot) -> None:
    with pytest.raises(UserError, match=r"does not fit dots_net: .*7 classes.*pass them, as ARGUMENTS="):
        adopt_dot(dot(classes=7))


def test_an_architecture_of_one_channel_sees_grey_pictures(adopt_dot: AdoptDot, dot: Dot, project: Project) -> None:
    recipe = adopt_dot(dot(channels=1), "{channels: 1}")
    assert (recipe.input.channels, recipe.input.normalization) == ("grey", "half")
    assert "# Assumed: the usual size, and levels from -1 to 1" in project.text("dot")


def test_the_lines_to_type_next_name_another_folder_of_architectures(
    adopt_dot: AdoptDot, dot: Dot, dots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adopt_dot(dot())
    assert f"PYTHONPATH={dots} make archives MODEL=dot" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", ["classes=7", "[7]", "{7: 8}", "{"])
def test_arguments_that_are_no_mapping_are_refused(arguments: str, project: Project) -> None:
    with pytest.raises(UserError, match="expected names and values, as ARGUMENTS="):
        project.adopt(project.saved(project.net()), architecture="adopted_net:Net", arguments=arguments)


def test_arguments_without_weights_of_ones_own_are_refused(project: Project) -> None:
    with pytest.raises(UserError, match="ARGUMENTS= are those of an architecture that gets your own weights"):
        project.adopt("torchvision:resnet18", arguments="{num_classes: 3}")


def test_a_misspelt_recipe_or_file_of_labels_is_said(project: Project) -> None:
    path = project.saved(project.net())
    with pytest.raises(UserError, match=r"LIKE=flours: there is no recipe .*flours\.yaml; there are: none"):
        project.adopt(path, architecture="adopted_net:Net", like="flours")
    with pytest.raises(UserError, match=r"LABELS=lables\.txt: there is no such file; it may be imagenet1k"):
        project.adopt(path, architecture="adopted_net:Net", labels="lables.txt")


def test_weights_that_are_no_numbers_are_refused(project: Project) -> None:
    net = project.net()
    net.load_state_dict({name: item * float("nan") for name, item in net.state_dict().items()})
    with pytest.raises(UserError, match=r"flowers\.pth: the outputs are not finite numbers"):
        project.adopt(project.saved(net), architecture="adopted_net:Net")
