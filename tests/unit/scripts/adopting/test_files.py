import pytest
import torch

from scripts.console import UserError
from tests.unit.scripts.adopting.conftest import Project


def test_a_checkpoint_alone_says_what_is_missing(project: Project) -> None:
    with pytest.raises(UserError, match=r"has weights alone; say of what: ARCHITECTURE=torchvision:<name>"):
        project.adopt(project.saved(project.net()))


def test_a_pickled_module_is_refused_with_the_two_lines(project: Project) -> None:
    torch.save(project.net(), project.folder / "whole.pt")
    with pytest.raises(UserError) as error:
        project.adopt(project.folder / "whole.pt")
    assert 'model = torch.load("whole.pt", weights_only=False)\n' in str(error.value)
    assert 'torch.save(model.state_dict(), "whole-weights.pth")' in str(error.value)


def test_transformers_wants_its_folder(project: Project) -> None:
    with pytest.raises(UserError, match=r"give the folder of config\.json"):
        project.adopt(project.saved(project.net()), architecture="transformers:ViTForImageClassification")


def test_the_whole_input_is_assumed(project: Project) -> None:
    project.adopt(project.saved(project.net()), architecture="adopted_net:Net")
    assert "# Assumed: the usual of ImageNet, because a checkpoint does not say" in project.text("flowers")
    assert project.raw("flowers")["input"] == {
        "crop": 224, "resize": 256, "interpolation": "bilinear", "normalization": "imagenet",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a\nlabels: [evil].pth", "a\u2028b: c.pth", "a\x85b: c.pth"])
def test_the_end_of_a_line_in_a_name_ends_no_line_of_the_recipe(project: Project, name: str) -> None:
    recipe = project.adopt(project.saved(project.net(), name), architecture="adopted_net:Net", name="flowers")
    assert recipe.labels == ["0", "1", "2", "3", "4"]
    assert recipe.weights is not None
    assert recipe.weights.startswith(f"../{name}#sha256=")


def test_another_recipe_may_be_in_utf_16(project: Project) -> None:
    other = "name: x\narchitecture: n\nweights: a-12345678.pth\nlabels: [a]\ninput: {crop: 32}\n"
    (project.recipes / "x.yaml").write_bytes(other.encode("utf-16"))
    adopted = project.adopt(project.saved(project.net()), architecture="adopted_net:Net", like="x")
    assert adopted.input.crop == 32


@pytest.mark.slow
def test_a_checkpoint_of_a_library_is_adopted_as_its_architecture(project: Project) -> None:
    import torchvision

    torch.save(torchvision.models.squeezenet1_1(num_classes=3).state_dict(), project.folder / "rosen.pth")
    recipe = project.adopt(project.folder / "rosen.pth", architecture="torchvision:squeezenet1_1")
    assert (recipe.name, recipe.architecture) == ("rosen", "torchvision:squeezenet1_1")
    assert recipe.arguments == {"num_classes": 3}
    assert recipe.weights is not None
    assert recipe.weights.startswith("../rosen.pth#sha256=")
