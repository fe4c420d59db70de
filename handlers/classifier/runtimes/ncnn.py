"""The ncnn runtime: a graph for processors, whose 3 x 3 convolutions are computed by Winograd's algorithm.

ncnn computes picture by picture, and has the weights in a form of its own in its own memory. For a linear layer both
are a loss: for each picture it reads all weights again, of which VGG16 has 495 MB in its last three layers. So the
linear layers that end a graph are computed here, for a whole batch at once, with weights that stay mapped to their file
and are shared by all workers.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import ncnn
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from classifier.errors import UnusableError
from classifier.forks import Threads
from classifier.input import GREY_SHIFT, GREY_WEIGHTS, Channels, Input
from classifier.runtimes import Forward, Source
from classifier.runtimes.ncnn_graph import Graph, Linear, read_graph
from classifier.runtimes.parts import Rows, in_memory_twice, in_parts

_PIXEL_TYPES: dict[Channels, ncnn.Mat.PixelType] = {
    "rgb": ncnn.Mat.PixelType.PIXEL_RGB,
    "bgr": ncnn.Mat.PixelType.PIXEL_RGB2BGR,
    "grey": ncnn.Mat.PixelType.PIXEL_GRAY,
}


def load(source: Source) -> Forward:
    """Load an ncnn graph (.param, weights in the .bin beside it), float32 [C,H,W] or [H,W,C] to logits.

    Raises:
        UnusableError: the files are not an ncnn graph and its weights.
        OSError: a file cannot be read.
    """
    path = source.path
    weights = path.with_suffix(".bin")
    with weights.open("rb"):
        pass  # missing weights raise OSError, not UnusableError
    try:
        graph = read_graph(path.read_text("ascii"))
        features = _features(graph, weights, source)
        linear = _LinearLayers(graph.linear, weights, source.threads)
    except ValueError as error:
        raise UnusableError(f"{path.name} and {weights.name} are not an ncnn graph: {error}") from error
    return lambda pixels: linear(features(pixels))


def _features(graph: Graph, weights: Path, source: Source) -> Rows:
    """The part of the graph that ncnn computes.

    Raises:
        ValueError: as of `_net`.
    """
    spec = source.recipe.input
    together = _net(graph, weights, spec, source.threads)
    if source.parts == 1 or not in_memory_twice(weights):
        return together
    return in_parts(source.parts, _net(graph, weights, spec, 1), together)


def _net(graph: Graph, weights: Path, spec: Input, threads: int) -> Rows:
    """The same in a network with that many threads: by them it chooses the form of its weights while it loads them.

    Raises:
        ValueError: ncnn cannot read it; on the standard error ncnn says why.
    """
    net = ncnn.Net()
    net.opt.num_threads = threads
    # By default ncnn rounds weights and activations to 16 bits where the processor can compute with them
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_packed = net.opt.use_bf16_storage = False
    if net.load_param_mem(graph.text) != 0 or net.load_model(str(weights)) != 0:
        raise ValueError("ncnn cannot read it, or has no such layers")
    (taken,) = net.input_names()

    def compute(floats: ncnn.Mat) -> NDArray[np.float32]:
        extractor = net.create_extractor()
        extractor.input(taken, floats)
        failed, found = extractor.extract(graph.output)
        if failed:
            raise RuntimeError(f"ncnn cannot compute {graph.output} of a picture: error {failed}")
        return np.array(found).reshape(-1)

    return lambda pixels: np.stack([compute(floats) for floats in _normalized(pixels, spec)])


def _normalized(pixels: NDArray[np.uint8], spec: Input) -> Iterator[ncnn.Mat]:
    """Each picture of uint8 [N,H,W,3] as the graph takes it."""
    _, height, width, _ = pixels.shape
    scale = spec.statistics.scale
    means, factors = [mean / scale for mean in spec.mean], [scale / std for std in spec.std]
    for picture in _grey(pixels) if spec.channels == "grey" else np.ascontiguousarray(pixels):
        floats = ncnn.Mat.from_pixels(picture, _PIXEL_TYPES[spec.channels], width, height)
        floats.substract_mean_normalize(means, factors)
        if spec.layout == "nhwc":
            channels_last = np.ascontiguousarray(np.array(floats).transpose(1, 2, 0))
            floats = ncnn.Mat(channels_last).clone()  # which does not keep the array's memory
        yield floats


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB [N,H,W,3] to grey [N,H,W]."""
    weighted = pixels @ np.array(GREY_WEIGHTS, np.float32)  # whole numbers below 2^24, which float32 has exactly
    return np.ascontiguousarray(np.floor((weighted + GREY_SHIFT / 2) / GREY_SHIFT), np.uint8)


class _LinearLayers:
    """The linear layers that end a graph."""

    def __init__(self, layers: list[Linear], path: Path, threads: int) -> None:
        """Map the weights, which end the file.

        Raises:
            ValueError: the file is too short, or has the weights in another form than float32.
        """
        self._layers = list(zip(layers, _mapped(layers, path), strict=True))
        self._threads, self._pool = threads, Threads(threads, "linear")
        if layers:
            threadpool_limits(1, user_api="blas")  # its threads would wait actively, in the way of ncnn's

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """From rows [N,inputs of the first] to rows [N,outputs of the last]."""
        for layer, (weights, bias) in self._layers:
            columns = np.ascontiguousarray(rows.T)
            parts = self._pool.map(partial(_product, columns), np.array_split(weights, self._threads))
            rows = np.concatenate(parts).T + bias
            if layer.relu:
                np.maximum(rows, 0, out=rows)
        return np.ascontiguousarray(rows)


def _product(columns: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return weights @ columns


def _mapped(layers: list[Linear], path: Path) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weights [outputs,inputs] and bias [outputs] of each layer. The last layer's are at the end of the file."""
    words = np.asarray(np.memmap(path, np.float32, "r")) if layers else np.empty(0, np.float32)
    begin = len(words) - sum(_words(layer) for layer in layers)
    for layer in layers:
        end = begin + _words(layer)
        # a word before the weights says how they are stored: 0 is float32
        if begin < 0 or words[begin : begin + 1].view(np.uint32)[0] != 0:
            raise ValueError(f"{path.name} does not end with the weights of its linear layers in float32")
        size = layer.outputs * layer.inputs
        stored = words[begin + 1 : end]
        bias = stored[size:] if layer.bias else np.zeros(layer.outputs, np.float32)
        yield stored[:size].reshape(layer.outputs, layer.inputs), bias
        begin = end


def _words(layer: Linear) -> int:
    """How many words of the file are a layer's."""
    return 1 + layer.outputs * (layer.inputs + layer.bias)
