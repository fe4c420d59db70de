"""Measures how long JPEGs take to become input, and whether scaled decoding changes answers."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from classifier.pipeline import Classifier, load_pixels
from classifier.preprocess import normalize
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2 as transforms

from benchmarks.result import Decode
from scripts.archives.loaded import loaded
from scripts.archives.store import Archive

_ROUNDS: Final = 5
_REPEATED: Final = 20


def measure_decoding(archive: Archive, small: list[Path], pictures: list[Path]) -> Decode:
    """Measure bytes to a normalised tensor: the core against Pillow's full decode and torchvision's transform.

    Args:
        archive: whose recipe says what the tensor is, and whose classes are compared.
        small: JPEGs of 500 x 375, of which the CPU time of decoding and resizing is measured.
        pictures: JPEGs of 12 megapixels.
    """
    with loaded(archive.path) as classifier:
        return _measure(classifier, small, pictures)


def _measure(classifier: Classifier, small: list[Path], pictures: list[Path]) -> Decode:
    spec = classifier.recipe.input
    method = transforms.InterpolationMode(spec.interpolation)
    resize = transforms.Compose([transforms.Resize(spec.scaled[0], method), transforms.CenterCrop(list(spec.size))])

    def ours(path: Path) -> torch.Tensor:
        return normalize(torch.from_numpy(np.asarray(load_pixels(path.read_bytes(), spec))[None]), spec)

    def reference(path: Path) -> torch.Tensor:
        pixels = np.asarray(resize(Image.open(path).convert("RGB")))
        return normalize(torch.from_numpy(pixels.copy()[None]), spec)

    def top5(pixels: NDArray[np.uint8]) -> set[int]:
        return set(np.argsort(-classifier.logits(pixels[None])[0])[:5].tolist())

    same = [
        top5(np.asarray(load_pixels(path.read_bytes(), spec)))
        == top5(np.array(resize(Image.open(path).convert("RGB"))))
        for path in pictures
    ]
    took = [(_milliseconds(ours, path), _milliseconds(reference, path)) for _ in range(_ROUNDS) for path in pictures]
    return Decode(
        small_cpu_ms=_cpu_ms(lambda path: load_pixels(path.read_bytes(), spec), small),
        ours_ms=statistics.median(each for each, _ in took),
        reference_ms=statistics.median(each for _, each in took),
        same_top5=sum(same),
        pictures=len(pictures),
    )


def _milliseconds(compute: Callable[[Path], object], path: Path) -> float:
    begin = time.perf_counter()
    compute(path)
    return (time.perf_counter() - begin) * 1e3


def _cpu_ms(compute: Callable[[Path], object], paths: list[Path]) -> float:
    """The CPU time of all threads for one picture: the median of rounds over all of them, many times each."""
    took = []
    for _ in range(_ROUNDS):
        begin = time.process_time()
        for _ in range(_REPEATED):
            for path in paths:
                compute(path)
        took.append((time.process_time() - begin) / _REPEATED / len(paths) * 1e3)
    return statistics.median(took)
