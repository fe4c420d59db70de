from http.server import BaseHTTPRequestHandler

import pytest
import torch
from classifier.places import read_place

from scripts.adopting import libraries
from scripts.adopting.adoption import Adoption
from scripts.adopting.libraries import adopt_timm, adopt_torchvision, timm_labels
from scripts.console import UserError
from tests.unit.conftest import StartServer
from tests.unit.scripts.adopting.conftest import Project

pytestmark = pytest.mark.slow  # to import timm takes seconds


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("vgg16", {"weights": "torchvision:VGG16_Weights.IMAGENET1K_V1"}),
        ("ResNet50_Weights.IMAGENET1K_V1", {"weights": "torchvision:ResNet50_Weights.IMAGENET1K_V1"}),
        ("resnet50", {"weights": "torchvision:ResNet50_Weights.IMAGENET1K_V2", "input": {"resize": 232}}),
        (
            "efficientnet_b1",
            {
                "weights": "torchvision:EfficientNet_B1_Weights.IMAGENET1K_V2",
                "input": {"crop": 240, "resize": 255},
            },
        ),
        (
            "RegNet_Y_16GF_Weights.IMAGENET1K_SWAG_E2E_V1",
            {
                "weights": "torchvision:RegNet_Y_16GF_Weights.IMAGENET1K_SWAG_E2E_V1",
                "input": {"crop": 384, "resize": 384, "interpolation": "bicubic"},
            },
        ),
        (
            "googlenet",
            {
                "arguments": {"transform_input": True, "aux_logits": True, "init_weights": False},
                "weights": "torchvision:GoogLeNet_Weights.IMAGENET1K_V1",
            },
        ),
    ],
)
def test_torchvision_tells_all_and_nothing_is_assumed(project: Project, name: str, fields: dict[str, object]) -> None:
    recipe = project.adopt(f"torchvision:{name}")
    raw = project.raw(recipe.name)
    assert recipe.architecture == f"torchvision:{recipe.name}"
    assert raw == {"name": recipe.name, "architecture": recipe.architecture, "labels": "imagenet1k", **fields}
    assert "Assumed" not in project.text(recipe.name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("resnet51", "no classifier resnet51; near it: resnet5"),
        ("ResNet50_Weights.V3", "has no V3; it has IMAGENET1K_V1, IMAGENET1K_V2"),
        ("VGG16_Weights.IMAGENET1K_FEATURES", "has no classes: it computes features"),
        ("fasterrcnn_resnet50_fpn", "torchvision has no classifier"),
    ],
)
def test_what_torchvision_has_not_is_said_with_what_is_near(project: Project, name: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        adopt_torchvision(name, project.request())


def test_own_weights_leave_the_input_assumed(project: Project) -> None:
    import torchvision

    model = torchvision.models.mobilenet_v3_small(num_classes=3)
    torch.save({"model": model.half().state_dict()}, project.folder / "x.pth")
    recipe = project.adopt("torchvision:mobilenet_v3_small", weights=str(project.folder / "x.pth"), name="flowers")
    assert recipe.arguments == {"num_classes": 3}
    assert recipe.weights is not None
    assert recipe.weights.endswith("&entry=model")
    assert recipe.scores == "softmax"
    text = project.text("flowers")
    assert "# Assumed: as torchvision's MobileNet_V3_Small_Weights.IMAGENET1K_V1; your training may have" in text


@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
def test_auxiliary_classifiers_are_found_in_the_weights(project: Project) -> None:
    import torchvision

    model = torchvision.models.googlenet(num_classes=3, aux_logits=False, init_weights=False)
    torch.save(model.state_dict(), project.folder / "x.pth")
    recipe = project.adopt("torchvision:googlenet", weights=str(project.folder / "x.pth"))
    assert recipe.arguments == {"transform_input": True, "aux_logits": False, "init_weights": False, "num_classes": 3}
    assert "# Assumed: transform_input, as if trained on from torchvision's weights" in project.text("googlenet")


def test_timm_tells_its_data_config(project: Project) -> None:
    adoption = adopt_timm("resnet18", project.request())
    assert adoption.input == {"crop_percentage": 0.95, "interpolation": "bicubic"}
    assert adoption.labels == "imagenet1k"
    assert read_place(adoption.fields["weights"]).scheme == "https"
    assert adoption.assumed == {}


def test_timm_with_own_weights(project: Project) -> None:
    import timm

    torch.save(timm.create_model("test_vit", num_classes=3).state_dict(), project.folder / "x.pth")
    recipe = project.adopt("timm:test_vit", weights=str(project.folder / "x.pth"))
    assert (recipe.name, recipe.arguments, recipe.input.size) == ("test_vit", {"num_classes": 3}, (160, 160))
    assert "# Assumed: as timm's configuration of test_vit.r160_in1k; your training may have" in project.text(
        "test_vit"
    )


def test_timms_other_modes_of_cropping() -> None:
    squashed = Adoption(name="x", source="x")
    config = {"input_size": (3, 64, 64), "crop_mode": "squash", "crop_pct": 1.0, "interpolation": "bicubic"}
    libraries.set_timm_input(squashed, config, "x", own=False)
    assert squashed.input == {"crop": 64, "fit": "squash", "interpolation": "bicubic"}
    with pytest.raises(UserError, match="in a way that a recipe cannot say"):  # timm pads with the mean, not with black
        libraries.set_timm_input(squashed, {**config, "crop_mode": "border"}, "x", own=False)
    grey = Adoption(name="x", source="x")
    libraries.set_timm_input(grey, {**config, "input_size": (1, 28, 28), "mean": (0.1,), "std": (0.3,)}, "x", own=False)
    assert (grey.input["channels"], grey.input["normalization"]) == ("grey", {"mean": 0.1, "std": 0.3})


def test_what_timm_has_not_is_said_with_what_is_near(project: Project) -> None:
    with pytest.raises(UserError, match=r"timm has no model resnet19; near it: .*resnet1"):
        adopt_timm("resnet19", project.request())


class Hub(BaseHTTPRequestHandler):
    """Answers as Hugging Face's hub does for a large file."""

    def do_HEAD(self) -> None:
        there = self.path.endswith("/resolve/main/model.safetensors")
        self.send_response(302 if there else 404)
        if there:
            self.send_header("X-Linked-ETag", f'"{"ab" * 32}"')
            self.send_header("X-Repo-Commit", "c0ffee")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_timms_weights_on_the_hub_are_pinned(
    project: Project, web_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = web_server(Hub)
    monkeypatch.setattr(libraries, "_HUB", hub + "/{model}/resolve/{revision}/{file}")
    recipe = project.adopt("timm:vit_tiny_patch16_224")
    assert recipe.weights == (
        f"{hub}/timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k/resolve/c0ffee/model.safetensors#sha256={'ab' * 32}"
    )
    monkeypatch.setattr(libraries, "_HUB_FILES", ("pytorch_model.bin",))
    with pytest.raises(UserError, match=r"are not where they should be: .*: 404"):
        project.adopt("timm:vit_tiny_patch16_224", force=True)


def test_without_a_network_timm_asks_for_weights(
    project: Project, refusing_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "_HUB", refusing_address + "/{model}/{revision}/{file}")
    with pytest.raises(UserError, match=r"cannot be reached .* or pass WEIGHTS=<checkpoint>"):
        adopt_timm("vit_tiny_patch16_224", project.request())


def test_labels_of_timm() -> None:
    assert timm_labels({"num_classes": 1000}) == "imagenet1k"
    assert len(timm_labels({"num_classes": 21841})) == 21841
    assert timm_labels({"num_classes": 7}) is None
    (label,) = timm_labels({"label_names": ["n01"], "label_descriptions": {"n01": "tench"}})
    assert (label.class_id, label.class_name) == ("n01", "tench")
