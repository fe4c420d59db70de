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


@pytest.mark.slow
def test_a_checkpoint_of_a_library_is_adopted_as_its_architecture(project: Project) -> None:
    import torchvision

    torch.save(torchvision.models.squeezenet1_1(num_classes=3).state_dict(), project.folder / "rosen.pth")
    recipe = project.adopt(project.folder / "rosen.pth", architecture="torchvision:squeezenet1_1")
    assert (recipe.name, recipe.architecture) == ("rosen", "torchvision:squeezenet1_1")
    assert recipe.arguments == {"num_classes": 3}
    assert recipe.weights is not None
    assert recipe.weights.startswith("../rosen.pth#sha256=")
