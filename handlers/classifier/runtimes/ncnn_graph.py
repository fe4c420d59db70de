"""The text of an ncnn graph: a line for each layer, of which the linear ones at the end can be computed elsewhere."""

from typing import Final, NamedTuple

_MAGIC: Final = "7767517"  # the first line of every such file
_LOGITS: Final = "out0"  # pnnx's name of a graph's first output

# ncnn's numbers of a linear layer's settings
_OUTPUTS, _BIAS, _WEIGHTS, _ACTIVATION = "0", "1", "2", "9"
_ACTIVATIONS: Final = {"0": False, "1": True}  # none, and ReLU


class Linear(NamedTuple):
    """A linear layer, whose weights are [outputs, inputs]."""

    inputs: int
    outputs: int
    bias: bool
    relu: bool


class Graph(NamedTuple):
    """A graph in two parts."""

    text: str  # of the graph without the linear layers that end it
    output: str  # what that part gives
    linear: list[Linear]  # the layers that make logits of it, in their order; none if the graph ends otherwise


def read_graph(text: str) -> Graph:
    """Take a graph apart.

    Raises:
        ValueError: it is not such a text, or not all of it.
    """
    magic, counts, *lines = text.splitlines()
    layers, blobs = map(int, counts.split())
    if magic != _MAGIC or layers != len(lines) or not text.endswith("\n"):
        raise ValueError("the text is not that of a graph, or a part of one")
    output, linear = _LOGITS, list[Linear]()
    while lines and (found := _linear(lines[-1], output)) is not None:
        output, layer = found
        linear.insert(0, layer)
        lines.pop()
    kept = [magic, f"{len(lines)} {blobs - len(linear)}", *lines]
    return Graph("\n".join(kept) + "\n", output, linear)


def _linear(line: str, output: str) -> tuple[str, Linear] | None:
    """What a layer takes, and the layer, if it is a linear one that gives this output and does nothing else."""
    match line.split():
        case ["InnerProduct", _, "1", "1", taken, given, *settings] if given == output:
            values = dict(item.split("=") for item in settings)
        case _:
            return None
    activation = _ACTIVATIONS.get(values.pop(_ACTIVATION, "0"))
    if activation is None or values.keys() - {_OUTPUTS, _BIAS, _WEIGHTS}:
        return None
    outputs, weights = (int(values.get(name, "0")) for name in (_OUTPUTS, _WEIGHTS))
    if min(outputs, weights) < 1 or weights % outputs:
        raise ValueError(f"a linear layer of {outputs} outputs has {weights} weights")
    return taken, Linear(weights // outputs, outputs, values.get(_BIAS) == "1", activation)
