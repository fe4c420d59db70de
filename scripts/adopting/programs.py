"""Adopts programs, which are served as they are: TorchScript, torch.export, ONNX. Finds out what they take.

Nothing in a program says how its pictures were normalised, so that is always assumed, unless another recipe tells it.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from classifier.input import Channels, Layout
from classifier.places import ProgramKind
from classifier.runtimes.tensors import logits_of

from scripts.adopting.adoption import Adoption, Request, model_name, place
from scripts.adopting.onnx_file import read_onnx
from scripts.console import UserError
from scripts.packages import require

# Sides that models take, the most usual first.
_SIDES: Final = (
    224,
    256,
    299,
    384,
    32,
    28,
    64,
    96,
    112,
    128,
    160,
    192,
    240,
    260,
    288,
    300,
    320,
    336,
    380,
    448,
    456,
    512,
)
_USUAL_SIDE: Final = 224
_LARGEST_BATCH: Final = 128  # that is tried
_LAYOUTS: Final[tuple[Layout, ...]] = ("nchw", "nhwc")
_UNKNOWN: Final = "a program does not say how its pictures were prepared; LIKE=<recipe> takes it from another one"


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What a program takes: None stands for anything."""

    depth: int
    height: int | None
    width: int | None
    batch: int | None
    layout: Layout
    outputs: int = 1  # of which the first is taken
    levels: bool = False  # whole numbers 0…255: the program normalises itself


def adopt_program(path: Path, kind: ProgramKind, request: Request) -> Adoption:
    """Adopt a program.

    Raises:
        UserError: it cannot be loaded, or takes or gives something else than pictures and a row of numbers each.
    """
    if request.architecture is not None or request.weights is not None:
        raise UserError(
            f"{path} is a program, which has an architecture and weights: leave ARCHITECTURE= and WEIGHTS= out"
        )
    adoption = Adoption(name=request.name or model_name(path.stem), source=path.name)
    adoption.weights = path
    adoption.fields["program"] = f"{kind}:{place(path, adoption, request)}"
    readers: dict[ProgramKind, Callable[[Path], Taken]] = {
        "torchscript": _torchscript,
        "export": _export,
        "onnx": _onnx,
    }
    _set_input(adoption, readers[kind](path), path)
    return adoption


def _set_input(adoption: Adoption, taken: Taken, path: Path) -> None:
    """Set what is known of the input, and assume the rest."""
    channels: dict[int, Channels] = {3: "rgb", 1: "grey"}
    if taken.depth not in channels:
        raise UserError(f"{path} takes {taken.depth} channels; a picture has 1 or 3")
    size = [side or _USUAL_SIDE for side in (taken.height, taken.width)]
    crop: Any = size[0] if size[0] == size[1] else size
    certain = taken.height is not None and taken.width is not None
    known = {"layout": taken.layout, "batch": taken.batch, "crop": crop if certain else None}
    adoption.known = {key: value for key, value in known.items() if value is not None}
    if taken.depth == 1:
        adoption.known["channels"] = "grey"
    adoption.input = {key: value for key, value in adoption.known.items() if (key, value) != ("layout", "nchw")}
    said = f"{taken.layout}, {taken.depth} channels, " + (f"{size[0]} x {size[1]}" if certain else "any size")
    if taken.outputs > 1:
        why = f"the logits are the first of its {taken.outputs} outputs; if they are not, export them alone"
        adoption.assume("program", adoption.fields["program"], why)
    adoption.take(f"{path.name} takes {said}, in batches of {taken.batch or 'any size'}")
    if not certain:
        adoption.assume("input.crop", crop, "the usual size, because the program takes several")
    if taken.depth == 3:
        adoption.assume("input.channels", "rgb", "red first; OpenCV's pictures are bgr")
    adoption.assume("input.fit", "crop", f"a centre crop of 87.5 %; {_UNKNOWN}")
    adoption.assume("input.interpolation", "bilinear", "the usual")
    if taken.levels:
        adoption.known["normalization"] = {"scale": 1.0}
        adoption.input["normalization"] = {"scale": 1.0}
        adoption.take(f"{path.name} takes whole numbers: levels as they are, without normalisation")
    elif taken.depth == 3:
        adoption.assume("input.normalization", "imagenet", "ImageNet's mean and deviation, which most models take")
    else:
        adoption.assume("input.normalization", {"mean": 0.0, "std": 1.0}, "levels from 0 to 1")


def _torchscript(path: Path) -> Taken:
    """What a TorchScript program takes, by trying: the file does not say."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        try:
            module = torch.jit.load(path, map_location="cpu").eval()
        except RuntimeError as error:
            raise UserError(f"{path} is no TorchScript file that torch can load: {str(error)[:300]}") from error
    batches = [1, *_batches_in(module)]
    for batch in batches:
        for depth in (3, 1):
            for layout in _LAYOUTS:
                if (taken := _tried(module, batch, depth, layout)) is not None:
                    return taken
    raise UserError(
        f"{path} computes on no picture of {', '.join(map(str, _SIDES))} pixels, with one channel or three, in batches "
        f"of {', '.join(map(str, batches))}; write the recipe by hand (recipes/README.md)"
    )


def _batches_in(module: Any) -> list[int]:
    """The batches that a program may be fixed to: the whole numbers in its code, of which any such batch is one."""
    graph = module.inlined_graph  # its nodes are of use only as long as it is
    constants = (node for node in graph.findAllNodes("prim::Constant") if node.hasAttribute("value"))
    found = {node.i("value") for node in constants if node.kindOf("value") == "i"}
    return sorted(number for number in found if 1 < number <= _LARGEST_BATCH)


def _tried(module: Any, batch: int, depth: int, layout: Layout) -> Taken | None:
    """What a program takes if it computes on such a batch of pictures of some size."""
    fitting = [side for side in _SIDES if _computes(module, (batch, depth, side, side), layout)]
    if not fitting:
        return None
    side = fitting[0]
    only = side if len(fitting) == 1 else None
    free = batch == 1 and _computes(module, (2, depth, side, side), layout)
    given = _run(module, (batch, depth, side, side), layout)
    named = isinstance(given, dict) and "logits" in given
    outputs = len(given) if isinstance(given, dict | tuple | list) and not named else 1
    return Taken(depth=depth, height=only, width=only, batch=None if free else batch, layout=layout, outputs=outputs)


def _run(module: Any, shape: tuple[int, int, int, int], layout: str) -> Any:
    """What a program gives for black pictures of that shape [N,C,H,W]."""
    pictures = torch.zeros(shape)
    with torch.inference_mode():
        return module(pictures if layout == "nchw" else pictures.permute(0, 2, 3, 1).contiguous())


def _computes(module: Any, shape: tuple[int, int, int, int], layout: str) -> bool:
    """Whether a program gives one row of numbers for each picture of that shape [N,C,H,W]."""
    try:
        outputs = logits_of(_run(module, shape, layout))
    except (RuntimeError, TypeError, ValueError, torch.jit.Error):
        return False
    return outputs.ndim == 2 and outputs.shape[0] == shape[0]


def _export(path: Path) -> Taken:
    """What a program of torch.export takes, by its graph. To load one may run code: torch says so."""
    try:
        program = torch.export.load(path)
    except Exception as error:  # torch.export raises many exceptions
        raise UserError(f"{path} is no program that torch.export can load: {str(error)[:300]}") from error
    names = program.graph_signature.user_inputs
    inputs = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    shapes = [node.meta["val"] for node in inputs]
    if len(shapes) != 1 or shapes[0].ndim != len("nchw"):
        raise UserError(f"{path} takes {len(shapes)} tensors, not one of pictures [N,C,H,W]")
    dtype = shapes[0].dtype
    if dtype not in (torch.float32, torch.float16):
        raise UserError(f"{path} takes {dtype}; a program of torch.export is served with float32")
    taken = taken_of([side if isinstance(side, int) else None for side in shapes[0].shape], path)
    return msgspec.structs.replace(taken, outputs=len(program.graph_signature.user_outputs))


def _onnx(path: Path) -> Taken:
    require("export-onnx", "onnxruntime", why=f"{path.name}")
    shape, levels, outputs = read_onnx(path)
    return msgspec.structs.replace(taken_of(shape, path), levels=levels, outputs=outputs)


def taken_of(shape: list[int | None], path: Path) -> Taken:
    """What a program takes, by the shape of its input; None where a length is free.

    Raises:
        UserError: no length is one of channels.
    """
    batch, *rest = shape
    if rest[0] in (1, 3):
        depth, height, width = rest
        layout: Layout = "nchw"
    elif rest[2] in (1, 3):
        height, width, depth = rest
        layout = "nhwc"
    else:
        raise UserError(f"{path} takes {shape}: no side of that has the 1 or 3 channels of a picture")
    return Taken(depth=depth or 0, height=height, width=width, batch=batch, layout=layout)
