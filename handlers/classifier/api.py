"""The classifier for Python programs, without a server: load an archive or a recipe, then call it with pictures."""

import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifier.cpu import usable_cores
from classifier.digests import digest, verify
from classifier.errors import UnusableError
from classifier.forks import Threads
from classifier.identity import Identity, Model
from classifier.labels import load_labels
from classifier.pipeline import Classifier, finite
from classifier.problems import Problem
from classifier.rank import Prediction
from classifier.recipe import read_recipe
from classifier.runtimes import Source, load_runtime, require_process
from classifier.service import checked_top_k
from classifier.unpack import unpacked

# A path, the bytes of a file, a Pillow picture, or pixels: uint8 [H,W,3] in RGB, or [H,W] in grey.
Picture = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
_GREY, _COLOUR, _BATCH = 2, 3, 4  # dimensions of an array


class ImageClassifier:
    """A loaded model that is called with pictures.

    Several threads may call it at once, and so may forks of the process that loaded it, whether it was called before
    or not; only a model on a GPU answers in the process that loaded it alone. What `load` unpacked is removed when that
    process closes the model (`close`, or the end of a `with` block), no longer refers to it, or ends.
    """

    def __init__(self, core: Classifier, remove: Callable[[], None] = lambda: None) -> None:
        """Wrap a loaded classifier.

        Args:
            core: the classifier.
            remove: removes the files that it uses.
        """
        self.core = core
        self._remove = weakref.finalize(self, remove)  # it maps weights from them for as long as it is used
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what `load` unpacked; the model cannot be called any more. A fork leaves the files to its parent."""
        self._closed = True
        self._remove()

    def __repr__(self) -> str:
        model = self.core.identity.model
        return f"<{model.name} {model.version}, {model.runtime} {model.precision}, weights: {model.weights}>"

    @overload
    def __call__(  # type: ignore[overload-overlap] # a str is a sequence of strs
        self, pictures: str | os.PathLike[str] | bytes | Image.Image, top_k: int | None = None
    ) -> list[Prediction]: ...
    @overload
    def __call__(self, pictures: Sequence[Picture], top_k: int | None = None) -> list[list[Prediction] | Problem]: ...
    @overload
    def __call__(self, pictures: NDArray[np.uint8], top_k: int | None = None) -> Any: ...
    def __call__(self, pictures: Picture | Sequence[Picture], top_k: int | None = None) -> Any:
        """Classify one picture, or many in as few forward passes as the recipe's batch size allows.

        Args:
            pictures: a path, the bytes of a file, a Pillow picture, or an array uint8 [H,W,3] (RGB) or [H,W] (grey);
                or many: a list of any of these, or an array uint8 [N,H,W,3].
            top_k: how many classes to return, 1 … number of classes; by default five, or all if there are fewer.

        Returns:
            For one picture, its predictions, likeliest first. For many, a list: the predictions of each, or its
            `Problem`, which does not affect the others.

        Raises:
            Problem: the one picture cannot be classified, or `top_k` is out of range.
            OSError: a path cannot be read.
            TypeError, ValueError: an object or array is not a picture; the message says what is expected.
            UnusableError: the model was closed; or it cannot be used in a fork, because it computes on a GPU, or was
                computing for very long when the process was forked.
        """
        if self._closed:
            raise UnusableError(f"{self!r} was closed: load() it again")
        require_process(self.core.source)
        top_k = checked_top_k(top_k, len(self.core.labels))
        if many := _is_batch(pictures):
            given: Sequence[Any] = pictures  # type: ignore[assignment] # an array is a sequence of its rows
        else:
            given = [pictures]
        found = self.core.classify([_picture(item) for item in given], [top_k] * len(given))
        if many:
            return found
        (only,) = found
        if isinstance(only, Problem):
            raise only
        return only


def load(
    source: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    device: str = "cpu",
    threads: int | None = None,
) -> ImageClassifier:
    """Load an archive, or a recipe with a state_dict, into this process.

    An eager archive's architecture is the code in the archive, whatever modules of the same names this process has; a
    recipe's is imported from `handlers/`. Load only archives that you trust: that code is executed, and an AOTInductor
    archive is machine code.

    Args:
        source: a `.mar`, `.tar.gz` or unpacked archive; or `recipes/<model>.yaml`.
        weights: with a recipe, the file of a state_dict; the model then runs eagerly in float32.
        device: as torch names it, `cpu` or `cuda:0`.
        threads: how many threads compute; by default one for each core that this process may use.

    Raises:
        BrokenArchiveError: the archive differs from what was built; `ForeignArchiveError`, if it was not built here.
        UnusableError: a file cannot be used, or a recipe's weights answer nothing; the message says which and why.
        OSError: a file is missing.
    """
    path = Path(source)
    threads = threads or usable_cores()
    if path.suffix in (".yaml", ".yml"):
        if weights is None:
            raise UnusableError(f"{path} is a recipe: pass `weights=`, the path of a state_dict, or load an archive")
        return ImageClassifier(_from_recipe(path, Path(weights), device, threads))
    if weights is not None:
        raise UnusableError(f"{path} is an archive and has weights of its own; `weights=` goes with a recipe")
    if path.is_dir():
        verify(path)
        return ImageClassifier(Classifier.load(path, device, threads))
    return _unpacked(path, device, threads)


def _unpacked(archive: Path, device: str, threads: int) -> ImageClassifier:
    """Load an archive that is one file. Its content lies in a temporary folder for as long as the model is in use."""
    folder, remove = unpacked(archive)
    try:
        return ImageClassifier(Classifier.load(folder, device, threads), remove)
    except BaseException:
        remove()
        raise


def _from_recipe(path: Path, weights: Path, device: str, threads: int) -> Classifier:
    recipe = read_recipe(path)
    variant = recipe.variant("eager", "float32")
    with weights.open("rb") as stream:
        sha256 = digest(stream)
    model = Model(
        name=recipe.name,
        version=variant.version,
        runtime=variant.runtime,
        precision=variant.precision,
        weights=weights.stem,
    )
    source = Source(
        directory=weights.parent,
        serialized_file=weights.name,
        recipe=recipe,
        variant=variant,
        threads=threads,
        device=device,
    )
    core = Classifier(
        recipe=recipe,
        identity=Identity(model=model, weights_sha256=sha256, serialized_file=weights.name),
        labels=load_labels(recipe.labels, path.parent),
        source=source,
        forward=load_runtime(source),
        decoders=Threads(threads, "decode"),
    )
    _try(core, weights)
    return core


def _try(core: Classifier, weights: Path) -> None:
    """Compute once, as the build of an archive does, so that weights that answer nothing are refused here too.

    Raises:
        UnusableError: the model does not take the recipe's input, or gives no finite number for each label.
    """
    try:
        found = core.probabilities(np.zeros((1, *core.recipe.input.size, 3), np.uint8))
    except Exception as error:  # whatever the model's code raises
        raise UnusableError(f"{core.recipe.name} with {weights.name} does not compute: {error}") from error
    if not finite(found):
        raise UnusableError(
            f"{core.recipe.name} with {weights.name} gives outputs that are not finite numbers; the weights are "
            "damaged, or training diverged"
        )


def _is_batch(pictures: object) -> bool:
    if isinstance(pictures, np.ndarray):
        return pictures.ndim == _BATCH
    return isinstance(pictures, Sequence) and not isinstance(pictures, str | bytes | bytearray)


def _picture(given: object) -> bytes | Image.Image:
    if isinstance(given, Image.Image):
        return given
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given)
    if isinstance(given, str | os.PathLike):
        return Path(given).read_bytes()
    if not isinstance(given, np.ndarray):
        raise TypeError(f"a {type(given).__name__} is not a picture: pass a path, bytes, a Pillow picture or an array")
    if given.dtype != np.uint8:
        raise TypeError(f"an array of {given.dtype} is not a picture: pass uint8, 0 to 255")
    if given.size and (given.ndim == _GREY or (given.ndim == _COLOUR and given.shape[2] == len("RGB"))):
        return Image.fromarray(given)
    shape = list(given.shape)
    raise ValueError(f"an array {shape} is not a picture: pass [H,W,3] in RGB, [H,W] in grey, or [N,H,W,3]")
