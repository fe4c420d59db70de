"""Sources that are whole: programs of TorchScript, torch.export and ONNX, and a stock `.mar`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision import models

from tests.integration.decisive import decide, seeded
from tests.integration.onnx_like_tensorflow import write_onnx
from tests.integration.source import Made, Place, Transform, of_network, opened


def _shufflenet(place: Place) -> tuple[nn.Module, Transform]:
    transform = models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.transforms()
    with seeded():
        return decide(models.shufflenet_v2_x0_5(num_classes=len(place.pictures)), place.inputs(transform)), transform


def of_torchscript(place: Place) -> Made:
    network, transform = _shufflenet(place)
    program = place.folder / "traced.pt"
    torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, 224, 224)), program)
    return Made({"FROM": program, "LABELS": place.labels}, of_network(torch.jit.load(program), transform))


def of_export(place: Place) -> Made:
    network, transform = _shufflenet(place)
    program = place.folder / "exported.pt2"
    batch = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(network, (torch.zeros(2, 3, 224, 224),), dynamic_shapes=batch), program)
    return Made({"FROM": program, "LABELS": place.labels}, of_network(torch.export.load(program).module(), transform))


def of_onnx(place: Place) -> Made:
    network, transform = _shufflenet(place)
    program = place.folder / "exported.onnx"
    batch = ({0: torch.export.Dim("batch")},)
    exported = torch.onnx.export(network, (torch.zeros(2, 3, 224, 224),), dynamic_shapes=batch, verbose=False)
    assert exported is not None
    exported.save(program, external_data=False)
    session = onnxruntime.InferenceSession(program)

    def pipeline(picture: Path) -> NDArray[np.float32]:
        (logits,) = session.run(None, {session.get_inputs()[0].name: transform(opened(picture))[None].numpy()})
        return torch.from_numpy(logits).softmax(1)[0].numpy()

    return Made({"FROM": program, "LABELS": place.labels}, pipeline)


def of_tensorflow(place: Place) -> Made:
    """As TensorFlow's programs are converted: one picture [1,H,W,3] at a time, to probabilities."""
    (place.recipes / "like.yaml").write_text(
        f"name: like\narchitecture: meadow\nweights: like.pth#sha256={'0' * 64}\nlabels: [one]\n"
        "input: {crop: [128, 160], fit: squash, normalization: half}\n"
    )
    program = place.folder / "saved_model.onnx"

    def transform(picture: Image.Image) -> Tensor:
        levels = np.asarray(picture.resize((160, 128), Image.Resampling.BILINEAR), np.float32)
        return torch.from_numpy(levels / 127.5 - 1).permute(2, 0, 1)

    with seeded():
        write_onnx(program, place.inputs(transform))
    session = onnxruntime.InferenceSession(program)

    def pipeline(picture: Path) -> NDArray[np.float32]:
        given = transform(opened(picture)).permute(1, 2, 0)[None].numpy()
        probabilities: NDArray[np.float32] = session.run(None, {"input_1": given})[0][0]
        return probabilities

    return Made({"FROM": program, "LIKE": "like", "LABELS": place.labels}, pipeline)


# ---- an archive of TorchServe's own handler

_MODEL_FILE: Final = """\
from torchvision.models.resnet import BasicBlock, ResNet


class ImageClassifier(ResNet):
    def __init__(self):
        super().__init__(BasicBlock, [1, 1, 1, 1], num_classes=20)
"""


def of_stock(place: Place) -> Made:
    """Built by torch-model-archiver, and answered by TorchServe's own image_classifier."""
    from ts.torch_handler.image_classifier import ImageClassifier  # type: ignore[import-untyped]

    folder = place.folder
    (folder / "model.py").write_text(_MODEL_FILE)
    (folder / "requirements.txt").write_text("torchvision==0.29.1\n")
    names = {str(index): picture.stem for index, picture in enumerate(place.pictures)}
    (folder / "index_to_name.json").write_text(json.dumps(names))
    transform = ImageClassifier.image_processing
    with seeded():
        network = models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=len(names))
        torch.save(decide(network, place.inputs(transform)).state_dict(), folder / "model.pth")
    subprocess.run(
        [
            *(sys.executable, "-m", "model_archiver.model_packaging", "--model-name", "old", "--version", "1.0"),
            *("--handler", "image_classifier", "--model-file", "model.py", "--serialized-file", "model.pth"),
            *("--extra-files", "index_to_name.json", "--requirements-file", "requirements.txt"),
        ],
        check=True,
        cwd=folder,
    )
    return Made({"FROM": folder / "old.mar"}, of_network(network, transform))
