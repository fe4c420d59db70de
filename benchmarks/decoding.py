"""Measures how long JPEGs take to become input, and whether scaled decoding changes answers."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from classifier.normalization import normalize
from classifier.pipeline import Classifier, load_pixels
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2 as transforms

from benchmarks.result import Decode
from scripts.archives.loaded import loaded
from scripts.archives.store import Archive

_ROUNDS: Final = 5
_REPEATED: Final = 5


def measure_decoding(archive: Archive, pictures: list[Path], small: list[Path]) -> Decode:
    """Measure bytes to a normalised tensor: the core against Pillow's full decode and torchvision's transform.

    Args:
        archive: whose recipe says what the tensor is, and whose classes are compared.
        pictures: JPEGs of 12 megapixels.
        small: JPEGs of 500 x 375; their CPU time is measured to pixels.
    """
    with loaded(archive.path) as classifier:
        return _measure(classifier, pictures, small)


def _measure(classifier: Classifier, pictures: list[Path], small: list[Path]) -> Decode:
    spec = classifier.recipe.input
    method = transforms.InterpolationMode(spec.interpolation)
    resize = transforms.Compose([transforms.Resize(spec.scaled[0], method), transforms.CenterCrop(list(spec.size))])

    def ours(path: Path) -> NDArray[np.uint8]:
        return np.asarray(load_pixels(path.read_bytes(), spec))

    def reference(path: Path) -> NDArray[np.uint8]:
        return np.array(resize(Image.open(path).convert("RGB")))

    def tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
        return normalize(torch.from_numpy(pixels[None]), spec)

    def top5(pixels: NDArray[np.uint8]) -> set[int]:
        return set(np.argsort(-classifier.logits(pixels[None])[0])[:5].tolist())

    sides = (lambda path: tensor(ours(path)), lambda path: tensor(reference(path)))
    ours_ms, reference_ms = _medians(sides, pictures, time.perf_counter)
    small_ms, small_reference_ms = _medians((ours, reference), small, time.process_time, _REPEATED)
    return Decode(
        ours_ms=ours_ms,
        reference_ms=reference_ms,
        same_top5=sum(top5(ours(path)) == top5(reference(path)) for path in pictures),
        pictures=len(pictures),
        small_cpu_ms=small_ms,
        small_reference_cpu_ms=small_reference_ms,
    )


def _medians(
    sides: Sequence[Callable[[Path], object]], pictures: list[Path], clock: Callable[[], float], repeated: int = 1
) -> list[float]:
    """For each side the median of the milliseconds that a picture takes, by that clock.

    The sides take turns. What is repeated finds its own data in the processor's caches, as in a worker.
    """
    took: list[list[float]] = [[] for _ in sides]
    for _ in range(_ROUNDS):
        for path in pictures:
            for side, times in zip(sides, took, strict=True):
                for _ in range(repeated):
                    begin = clock()
                    side(path)
                    times.append((clock() - begin) * 1e3)
    return [statistics.median(times) for times in took]
