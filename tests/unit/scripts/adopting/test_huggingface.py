from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.adopting.huggingface import adopt_folder
from scripts.console import UserError
from tests.unit.scripts.adopting.conftest import Project, write_json

pytestmark = pytest.mark.slow  # to import transformers takes seconds

PROCESSOR = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, "resample": 2}


def vit(project: Project, processor: dict[str, Any] | None = None, **settings: Any) -> Path:
    """A folder as transformers saves a small ViT of three classes."""
    from safetensors.torch import save_file
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        id2label={0: "a", 1: "b", 2: "ü"}, label2id={"a": 0, "b": 1, "ü": 2},
    )  # fmt: skip
    folder = project.folder / "my-vit"
    folder.mkdir(exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(ViTForImageClassification(config).state_dict(), folder / "model.safetensors")
    write_json(folder / "config.json", {**config.to_dict(), "architectures": ["ViTForImageClassification"], **settings})
    write_json(folder / "preprocessor_config.json", PROCESSOR if processor is None else processor)
    return folder


def test_a_model_of_transformers(project: Project) -> None:
    recipe = project.adopt(vit(project))
    assert (recipe.name, recipe.architecture) == ("my_vit", "transformers:ViTForImageClassification")
    assert recipe.arguments == {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 32,
        "pooler_output_size": 16, "num_labels": 3,
    }  # fmt: skip
    assert recipe.labels == ["a", "b", "ü"]
    assert project.raw("my_vit")["input"] == {"crop": 32, "fit": "squash", "normalization": "half"}
    assert "Assumed" not in project.text("my_vit")


def test_another_recipe_replaces_a_processor_that_no_recipe_can_say(project: Project) -> None:
    folder = vit(project, {"image_processor_type": "Nothing"})
    (project.recipes / "other.yaml").write_text(
        "name: other\narchitecture: net\nweights: a-01234567.pth\nlabels: [a]\ninput: {crop: 32, fit: pad}\n"
    )
    assert project.adopt(folder, like="other").input.fit == "pad"


def test_the_crop_is_cut_where_transformers_cuts_it(project: Project) -> None:
    processor = {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 35}, "crop_size": 32}
    assert project.adopt(vit(project, processor)).input.crop_offset == "floor"
    assert "Assumed" not in project.text("my_vit")


def test_several_labels_at_once_have_sigmoid(project: Project) -> None:
    assert project.adopt(vit(project, problem_type="multi_label_classification")).scores == "sigmoid"


def test_placeholders_are_no_labels(project: Project) -> None:
    recipe = project.adopt(vit(project, id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}))
    assert recipe.labels == ["0", "1", "2"]
    assert "# Assumed: numbers" in project.text("my_vit")


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 32}, {"crop": 32, "fit": "squash"}),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 0.8},
            {"crop": 32, "resize": 40, "crop_offset": "floor"},
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
            {"crop": 384, "fit": "squash"},
        ),
        (
            {"image_processor_type": "DeiTImageProcessor", "size": {"height": 40, "width": 40}, "crop_size": 32},
            {"crop": 32, "crop_percentage": 0.8, "fit": "squash", "crop_offset": "floor"},
        ),
        (
            {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 40}, "crop_size": 32},
            {"crop": 32, "resize": 40, "crop_offset": "floor"},
        ),
        ({"image_processor_type": "LevitImageProcessor"}, {"crop_offset": "floor"}),
        (
            {"image_processor_type": "PoolFormerImageProcessor", "size": {"shortest_edge": 32}, "crop_size": 32},
            {"crop": 32, "resize": 35, "crop_offset": "floor"},
        ),
        (
            {
                "image_processor_type": "MobileViTImageProcessor",
                "size": {"shortest_edge": 288},
                "crop_size": {"height": 256, "width": 256},
            },
            {"crop": 256, "resize": 288, "channels": "bgr", "crop_offset": "floor"},
        ),
        (
            {"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 64, "width": 64}},
            {"crop": 64, "fit": "squash"},
        ),
        (
            {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 48}, "do_rescale": False},
            {"crop": [32, 48], "fit": "squash"},
        ),
    ],
)
def test_processors_become_inputs(project: Project, processor: dict[str, Any], expected: dict[str, Any]) -> None:
    adoption = adopt_folder(vit(project, {"resample": 3, **processor}), project.request())
    given = {key: value for key, value in adoption.input.items() if key not in ("interpolation", "normalization")}
    assert given == expected
    assert adoption.input["interpolation"] == "bicubic"


@pytest.mark.parametrize(
    ("processor", "why"),
    [
        ({**PROCESSOR, "do_resize": False}, "do_resize is off"),
        ({**PROCESSOR, "resample": 4}, "KeyError: 4"),
        ({**PROCESSOR, "auto_map": {}}, "brings code of its own"),
        ({"image_processor_type": "PerceiverImageProcessor"}, "a recipe cannot say"),
        ({"image_processor_type": "BitImageProcessor", "do_center_crop": False}, "nothing is cropped"),
        ({"image_processor_type": "Nothing"}, "transformers cannot read it"),
    ],
)
def test_what_a_recipe_cannot_say_is_refused(project: Project, processor: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        adopt_folder(vit(project, processor), project.request())


def test_a_model_of_timm(project: Project) -> None:
    import timm
    from safetensors.torch import save_file

    model = timm.create_model("test_vit", num_classes=3)
    save_file(model.state_dict(), project.folder / "model.safetensors")
    config = {"architecture": "test_vit", "num_classes": 3, "pretrained_cfg": model.pretrained_cfg}
    write_json(project.folder / "config.json", {**config, "label_names": ["x", "y", "z"]})
    recipe = project.adopt(project.folder, name="small")
    assert (recipe.architecture, recipe.arguments) == ("timm:test_vit", {"num_classes": 3})
    assert (recipe.labels, recipe.input.size, recipe.input.normalization) == (["x", "y", "z"], (160, 160), "half")
    assert "Assumed" not in project.text("small")


def test_what_a_folder_lacks_is_said(project: Project) -> None:
    folder = vit(project)
    for name, why in (
        ("preprocessor_config.json", "has no preprocessor_config.json"),
        ("model.safetensors", "has no weights: none of model.safetensors, pytorch_model.bin"),
        ("config.json", "has no config.json"),
    ):
        (folder / name).unlink()
        with pytest.raises(UserError, match=why):
            project.adopt(folder)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"architectures": ["ViTModel"]}, "ViTModel is no class of transformers that classifies pictures"),
        ({"architectures": ["XForImageClassification"]}, "XForImageClassification is no class"),
        ({"auto_map": {"AutoModel": "x--y"}}, "brings code of its own"),
    ],
)
def test_other_models_are_refused(project: Project, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        project.adopt(vit(project, **settings))


def test_split_weights_are_refused_with_how_to_join_them(project: Project) -> None:
    folder = vit(project)
    (folder / "model.safetensors").rename(folder / "model.safetensors.index.json")
    with pytest.raises(UserError, match=r'max_shard_size="100GB"'):
        project.adopt(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": None},
        {"architectures": []},
        {"architectures": [5]},
        {"architectures": "ResNetForImageClassification"},
        {"architectures": ["ResNetForImageClassification"], "id2label": ["a"]},
        {"architecture": 5, "pretrained_cfg": {"input_size": [3, 32, 32]}},
        {"architecture": "resnet18", "model_args": [1], "pretrained_cfg": {"input_size": [3, 32, 32]}},
    ],
)
def test_a_configuration_of_other_types_is_refused(project: Project, config: dict[str, Any]) -> None:
    write_json(project.folder / "config.json", config)
    project.saved(project.net(), "pytorch_model.bin")
    with pytest.raises(UserError, match=r"config\.json is no configuration of timm or transformers: Expected"):
        project.adopt(project.folder)


@pytest.mark.parametrize(
    "pretrained",
    [
        {},
        {"input_size": [3]},
        {"input_size": "x", "mean": "y"},
        {"input_size": [3, 32, 32], "std": [0, 0, 0]},
        {"input_size": [3, 32, 32], "interpolation": 7},
        {"input_size": [3, 32, 32], "crop_mode": "other"},
    ],
)
def test_a_configuration_that_timm_cannot_use_is_refused(project: Project, pretrained: dict[str, Any]) -> None:
    write_json(project.folder / "config.json", {"architecture": "resnet18", "pretrained_cfg": pretrained})
    project.saved(project.net(), "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pretrained_cfg of config\.json: timm or a recipe cannot use this"):
        project.adopt(project.folder)


@pytest.mark.parametrize("config", [b"[" * 100_000, b"\xff"])
def test_a_configuration_that_is_no_json_is_refused(project: Project, config: bytes) -> None:
    (project.folder / "config.json").write_bytes(config)
    with pytest.raises(UserError, match="is not JSON"):
        project.adopt(project.folder)


@pytest.mark.slow
def test_a_configuration_that_transformers_cannot_use_is_refused(project: Project) -> None:
    named = {"architectures": ["ResNetForImageClassification"], "model_type": "resnet"}
    project.saved(project.net(), "pytorch_model.bin")
    for config in ({"id2label": {"x": "a"}}, {"hidden_sizes": "x"}):
        write_json(project.folder / "config.json", named | config)
        with pytest.raises(UserError, match=r"config\.json: transformers cannot read it"):
            project.adopt(project.folder)
    write_json(project.folder / "config.json", named)
    for settings in ({"image_processor_type": 5}, {"image_processor_type": "ViTImageProcessor", "image_mean": [1]}):
        write_json(project.folder / "preprocessor_config.json", settings)
        with pytest.raises(UserError, match=r"preprocessor_config\.json: transformers cannot"):
            project.adopt(project.folder)
