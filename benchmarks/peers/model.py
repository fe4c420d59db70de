"""The model that the other servers serve, as a user would write it: torchvision's transforms, Pillow, softmax, top-k.

The backend is the one of this project's eager archives: float32, channels_last, the same weights, threads and settings
of the allocator. So what differs between two servers is the server.
"""

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from classifier.allocator import keep_memory
from classifier.architecture import build
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from benchmarks.peers import SUBJECT

_TOP: Final = 5

Answer = dict[str, float]  # label: probability, the likeliest first


@functools.cache
def set_up() -> dict[str, Any]:
    """Set this process up as a worker of this project is; returns what is to be served."""
    keep_memory()
    subject: dict[str, Any] = json.loads(Path(os.environ[SUBJECT]).read_text())
    torch.set_num_threads(subject["threads"])
    return subject


class Preparation:
    """A picture to a float32 tensor [C,H,W]."""

    def __init__(self) -> None:
        subject = set_up()
        self._mode = subject["mode"]
        self._transform = transforms.Compose(
            [
                transforms.Resize(subject["resize"], InterpolationMode(subject["interpolation"])),
                transforms.CenterCrop(subject["crop"]),
                transforms.ToTensor(),
                transforms.Normalize(subject["mean"], subject["std"]),
            ]
        )

    def __call__(self, picture: BinaryIO | Image.Image) -> Tensor:
        """Decode, resize, crop and normalise the picture of a file, or one that is open already."""
        image = picture if isinstance(picture, Image.Image) else Image.open(picture)
        prepared: Tensor = self._transform(image.convert(self._mode))
        return prepared


class Model:
    """Prepared pictures to answers."""

    def __init__(self) -> None:
        subject = set_up()
        self._labels: list[str] = subject["labels"]
        module = build(subject["architecture"], subject["arguments"])
        module.load_state_dict(torch.load(subject["weights"], weights_only=True, mmap=True), assign=True)
        self._module = module.eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Tensor]) -> list[Answer]:
        """Classify a batch of tensors [C,H,W]; an answer for each, in their order."""
        batch = torch.stack(tuple(pictures)).contiguous(memory_format=torch.channels_last)
        best = torch.softmax(self._module(batch), dim=1).topk(min(_TOP, len(self._labels)))
        return [
            {self._labels[index]: value for index, value in zip(indices, values, strict=True)}
            for indices, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
