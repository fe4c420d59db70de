"""Explanations: which parts of a picture are evidence for a class. Captum computes them, imported for the first one.

There are three methods. The result of each is a small grid of numbers:

* `grad_cam`: the last convolution's activations, weighted by the class's gradient. Needs the eager runtime.
* `integrated_gradients`: gradients on the path from a grey picture to this one. Needs the eager runtime.
* `occlusion`: how much of the class's probability is lost when a grey square covers a part. Works in every runtime.
"""

import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from classifier.decode import decode
from classifier.forks import compute
from classifier.normalization import normalize
from classifier.own_code import OwnCode
from classifier.pipeline import Classifier
from classifier.preprocess import region, resize_and_crop
from classifier.problems import BadParameter, NotSupported
from classifier.rank import Prediction
from classifier.recipe import Recipe
from classifier.runtimes.eager import load_module
from classifier.runtimes.tensors import logits_of

Method = Literal["grad_cam", "integrated_gradients", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)

_GREY = 128  # the level that covers a part, near the mean of every normalisation
_WINDOWS = 7  # parts a side; the occluding square is two parts wide, and moves by one
_STOCK_STEPS = 15  # of integrated gradients in TorchServe's handler
_STEPS = 24  # of integrated gradients; their sum is then within some percent of the difference that they explain

# The overlay's colours, from no evidence to the strongest: red, green and blue at each stop.
_STOPS = (0, 0.35, 0.7, 1)
_COLOURS = ((0, 200, 255, 255), (0, 30, 190, 255), (60, 40, 0, 220))

# Grad-CAM adds hooks to the module, so only one explanation at a time may use it.
_exclusive = threading.Lock()


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Where in a picture the evidence for a class is."""

    prediction: Prediction  # the class that is explained
    method: Method
    region: tuple[float, float, float, float]  # what the model saw: left, top, right, bottom in pixels, upright
    heatmap: NDArray[np.float32]  # [rows,columns] over that region, 0 … 1; 1 is the strongest evidence
    pixels: NDArray[np.uint8]  # [H,W,3], what the model saw


def explain(classifier: Classifier, image: bytes, target: str | None = None, method: str | None = None) -> Explanation:
    """Explain one class of one picture.

    Args:
        classifier: the model.
        image: the bytes of a picture.
        target: the class, by its id or its index; by default the likeliest one.
        method: one of `METHODS`; by default Grad-CAM where the runtime has gradients, otherwise occlusion.

    Raises:
        Problem: the picture, the target or the method cannot be used, or this archive or server cannot explain.
    """
    chosen = _method(classifier, method)
    spec = classifier.recipe.input
    picture = decode(image, spec.max_pixels)
    pixels = resize_and_crop(picture, spec)
    row = classifier.probabilities(pixels[None])[0]
    index = _target(classifier, target, row)
    label = classifier.labels[index]
    evidence = compute(_evidence, classifier, pixels, index, chosen)
    positive = np.maximum(np.nan_to_num(evidence), 0)
    return Explanation(
        prediction=Prediction(label.class_id, label.class_name, float(row[index])),
        method=chosen,
        region=region(*picture.size, spec),
        heatmap=(positive / (positive.max() or 1)).astype(np.float32),
        pixels=pixels,
    )


def attributions(classifier: Classifier, image: bytes, target: str | None = None) -> NDArray[np.float32]:
    """Integrated gradients of one class for each value of the model's input, as TorchServe's handler computes them.

    Args:
        classifier: the model.
        image: the bytes of a picture.
        target: the class, by its id or its index; the first one by default, as there.

    Returns:
        [channels,rows,columns], in units of the logit. They begin at a picture that is zero after normalisation.

    Raises:
        Problem: the picture or the target cannot be used, or this archive or server cannot explain.
    """
    _method(classifier, "integrated_gradients")
    attr = _captum()
    spec = classifier.recipe.input
    pixels = resize_and_crop(decode(image, spec.max_pixels), spec)
    index = 0 if target is None else _target(classifier, target, np.empty(0, np.float32))

    def gradients() -> NDArray[np.float32]:
        with _exclusive:
            module, floats = _differentiable(classifier, pixels)
            found = attr.IntegratedGradients(_logits(module)).attribute(
                floats, target=index, n_steps=_STOCK_STEPS, internal_batch_size=4
            )
            return _numpy(found[0])

    return compute(gradients)


def overlay(explanation: Explanation) -> Image.Image:
    """Draw what the model saw, in grey, with the evidence over it: from black through red and yellow to white."""
    height, width, _ = explanation.pixels.shape
    heat = Image.fromarray(explanation.heatmap).resize((width, height), Image.Resampling.BICUBIC)
    values = np.clip(np.asarray(heat), 0, 1)
    colours = np.stack([np.interp(values, _STOPS, channel) for channel in _COLOURS], axis=-1)
    grey = np.asarray(Image.fromarray(explanation.pixels).convert("L"), np.float32)[..., None]
    mixed = 0.55 * grey + 0.6 * values[..., None] * colours + 0.2 * explanation.pixels
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))


def _method(classifier: Classifier, asked: str | None) -> Method:
    runtime = classifier.identity.model.runtime
    if asked is None:
        return "grad_cam" if runtime == "eager" else "occlusion"
    known = next((method for method in METHODS if method == asked), None)
    if known is None:
        raise BadParameter(f"method must be one of {', '.join(METHODS)}")
    if known != "occlusion" and runtime != "eager":
        raise NotSupported(f"{known} needs gradients, which {runtime} lacks; ask for occlusion, or an eager archive")
    return known


def _target(classifier: Classifier, asked: str | None, row: NDArray[np.float32]) -> int:
    if asked is None:
        return int(row.argmax())
    ids = {label.class_id: index for index, label in enumerate(classifier.labels)}
    if asked in ids:
        return ids[asked]
    if asked.isascii() and asked.isdigit() and len(asked) <= 9 and int(asked) < len(ids):
        return int(asked)
    raise BadParameter(f"target must be the id of a class, or an index from 0 to {len(ids) - 1}")


def _evidence(classifier: Classifier, pixels: NDArray[np.uint8], index: int, method: Method) -> NDArray[np.float32]:
    """The evidence of each part for the class, [rows,columns], in the method's own unit."""
    with _exclusive:
        return _by_method(_captum(), classifier, pixels, index, method)


def _by_method(
    attr: Any, classifier: Classifier, pixels: NDArray[np.uint8], index: int, method: Method
) -> NDArray[np.float32]:
    if method == "occlusion":
        return _occlusion(attr, classifier, pixels, index)
    module, floats = _differentiable(classifier, pixels)
    if method == "grad_cam":
        cam = attr.LayerGradCam(_logits(module), last_convolution(module)).attribute(floats, index)
        return _numpy(cam[0, 0])
    grey = torch.full_like(torch.from_numpy(pixels[None]), _GREY).to(floats.device)
    gradients = attr.IntegratedGradients(_logits(module)).attribute(
        floats, normalize(grey, classifier.recipe.input), index, n_steps=_STEPS, internal_batch_size=4
    )
    # signed sums over large parts: single pixels are mostly noise, which cancels out
    return _numpy(nn.functional.adaptive_avg_pool2d(gradients.sum(1), _WINDOWS)[0])


def _captum() -> Any:
    try:
        import captum.attr
    except ImportError as error:
        raise NotSupported("explanations need captum on the server: pip install captum") from error
    return captum.attr


def _differentiable(classifier: Classifier, pixels: NDArray[np.uint8]) -> tuple[nn.Module, Tensor]:
    """The module of an eager archive, and its input for a picture: float32 [1,channels,rows,columns]."""
    source = classifier.source
    module = _module(msgspec.json.encode(source.recipe), source.path, source.device, source.code)
    return module, normalize(torch.from_numpy(pixels[None]).to(source.device), source.recipe.input)


def _logits(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The module's logits alone, for it may give more."""
    return lambda floats: logits_of(module(floats))


def _occlusion(attr: Any, classifier: Classifier, pixels: NDArray[np.uint8], index: int) -> NDArray[np.float32]:
    down, right = (max(1, side // _WINDOWS) for side in pixels.shape[:2])

    def probability(batch: Tensor) -> Tensor:  # [N,H,W,3], 0 to 255
        return torch.from_numpy(classifier.probabilities(batch.numpy().astype(np.uint8)))

    lost = attr.Occlusion(probability).attribute(
        torch.from_numpy(pixels[None]).float(),
        sliding_window_shapes=(2 * down, 2 * right, 3),
        strides=(down, right, 3),
        baselines=float(_GREY),
        target=index,
        perturbations_per_eval=classifier.recipe.serving.batch_size,
    )
    return _numpy(nn.functional.adaptive_avg_pool2d(lost.sum(3), _WINDOWS)[0])


def _numpy(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.detach().float().cpu().numpy()
    return array


@lru_cache(maxsize=2)
def _module(recipe: bytes, path: Path, device: str, code: OwnCode | None) -> nn.Module:
    """The archive's module in float32, for its gradients; the weights are mapped from the same file."""
    return load_module(msgspec.json.decode(recipe, type=Recipe), path, code=code).to(device)


def last_convolution(module: nn.Module) -> nn.Module:
    """The last convolution of a network: the last layer whose output still keeps positions in the picture.

    Raises:
        NotSupported: the network has no convolution.
    """
    found = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    if not found:
        raise NotSupported("Grad-CAM needs a convolution, and this network has none; ask for occlusion")
    return found[-1]
