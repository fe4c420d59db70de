import pytest
import torch

from scripts.console import UserError
from tests.unit.scripts.adopting.conftest import Project


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
        ("adopted_net:Nut", "adopted_net has no class or function Nut"),
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
        ("Squashed", "none", "# Assumed: the model's outputs sum to one on every picture tried"),
        ("Several", "none", "# Assumed: the model's outputs lie between 0 and 1 on every picture tried"),
    ],
)
def test_outputs_that_are_probabilities_are_found(project: Project, kind: str, scores: str, why: str | None) -> None:
    recipe = project.adopt(project.saved(project.net(kind)), architecture=f"adopted_net:{kind}")
    assert recipe.scores == scores
    assert (why or "") in project.text("flowers")
    assert ("# Assumed: the model" in project.text("flowers")) == (why is not None)


def test_weights_that_are_no_numbers_are_refused(project: Project) -> None:
    net = project.net()
    net.load_state_dict({name: item * float("nan") for name, item in net.state_dict().items()})
    with pytest.raises(UserError, match=r"flowers\.pth: the outputs are not finite numbers"):
        project.adopt(project.saved(net), architecture="adopted_net:Net")
