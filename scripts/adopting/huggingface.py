"""Adopts a folder as Hugging Face has it: a model of timm or of transformers with its configuration."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from classifier.input import Input
from PIL import Image
from torch import Tensor

from scripts.adopting.adoption import Adoption, Request, input_fields, input_of, labels_in, model_name, place
from scripts.adopting.libraries import set_timm_input, timm_labels
from scripts.adopting.own_weights import give_weights
from scripts.adopting.trial import check_input
from scripts.console import UserError
from scripts.packages import require

_WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
_CONFIG: Final = "config.json"
_PREPROCESSOR: Final = "preprocessor_config.json"
# Of a configuration of transformers: what says nothing about the architecture.
_BESIDE: Final = (
    "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "_name_or_path", "id2label",
    "label2id", "num_labels", "problem_type", "_attn_implementation", "auto_map", "finetuning_task", "return_dict",
)  # fmt: skip
_INTERPOLATIONS: Final = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_WARPED_FROM: Final = 384  # pixels: ConvNext's processor squashes pictures to this size or a larger one
_LEVIT: Final = 256 / 224  # Levit's processor resizes to that much of its size
_LABELS_OF_SEVERAL: Final = "multi_label_classification"


class _Named(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration of either library has, as far as it is read here."""

    architecture: str | None = None
    architectures: Annotated[list[str], msgspec.Meta(min_length=1)] | msgspec.UnsetType = msgspec.UNSET
    model_args: dict[str, Any] | None = None
    id2label: dict[str, str] | None = None


def adopt_folder(folder: Path, request: Request) -> Adoption:
    """Adopt a folder with config.json, preprocessor_config.json and weights.

    Raises:
        UserError: a file is missing, the model is no classifier of pictures, or a recipe cannot say what it does.
    """
    if request.architecture is not None or request.weights is not None:
        raise UserError(f"{folder} has an architecture and weights: leave ARCHITECTURE= and WEIGHTS= out")
    config = _json(folder / _CONFIG)
    weights = _weights(folder)
    name = request.name or model_name(folder.resolve().name)
    adoption = Adoption(name=name, source=f"the folder {folder.resolve().name}")
    _refuse_odd(config, folder / _CONFIG)
    if "auto_map" in config:
        raise UserError(f"{folder}: the model brings code of its own (auto_map), which is not run; put it in handlers/")
    if "architecture" in config:
        _timm(config, adoption, msgspec.structs.replace(request, weights=str(weights)))
    elif "architectures" in config:
        _transformers(folder, config, weights, adoption, request)
    else:
        raise UserError(f"{folder / _CONFIG} names no architecture, neither timm's nor transformers'")
    return adoption


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} has no {path.name}, as a folder of Hugging Face has") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content


def _refuse_odd(config: dict[str, Any], path: Path) -> None:
    """Refuse a configuration that names its architecture in another way than both libraries do.

    Raises:
        UserError: it does; the message says where.
    """
    try:
        msgspec.convert(config, _Named)
    except msgspec.ValidationError as error:
        raise UserError(f"{path} is no configuration of timm or transformers: {error}") from error


def _weights(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
        if (folder / f"{name}.index.json").is_file():
            raise UserError(
                f"{folder}: the weights are split over several files; "
                'save them as one: model.save_pretrained(folder, max_shard_size="100GB")'
            )
    raise UserError(f"{folder} has no weights: none of {', '.join(_WEIGHTS)}")


def _timm(config: dict[str, Any], adoption: Adoption, request: Request) -> None:
    require("timm", why=f"the architecture {config['architecture']}")
    pretrained = config.get("pretrained_cfg")
    if not isinstance(pretrained, dict):
        raise UserError(f"{_CONFIG} has no pretrained_cfg, in which timm says how pictures are prepared")
    labels: dict[str, Any] = {
        key: config[key] for key in ("num_classes", "label_names", "label_descriptions") if key in config
    }
    adoption.fields["architecture"] = f"timm:{config['architecture']}"
    if request.like is None:
        set_timm_input(adoption, pretrained, f"pretrained_cfg of {_CONFIG}", own=False)
    give_weights(adoption, request, [config.get("model_args") or {}])
    adoption.labels = timm_labels({**pretrained, **labels})
    if adoption.labels is not None:
        adoption.take(f"classes from {_CONFIG}")


def _transformers(folder: Path, config: dict[str, Any], weights: Path, adoption: Adoption, request: Request) -> None:
    require("transformers", why=f"the architecture {config['architectures'][0]}")
    import transformers

    architecture = config["architectures"][0]
    found = getattr(transformers, architecture, None)
    if "ImageClassification" not in architecture or found is None:
        raise UserError(f"{folder / _CONFIG}: {architecture} is no class of transformers that classifies pictures")
    try:
        settings = found.config_class.from_dict(config)
    except Exception as error:  # each configuration of transformers checks its fields in its own way
        raise UserError(f"{folder / _CONFIG}: transformers cannot read it: {str(error)[:200]}") from error
    usual = found.config_class().to_dict()
    own = {
        key: value
        for key, value in settings.to_diff_dict().items()
        if key not in _BESIDE and (key not in usual or usual[key] != value)
    }
    labels = config.get("id2label") or {}
    adoption.fields |= {
        "architecture": f"transformers:{architecture}",
        "arguments": {**json.loads(json.dumps(own)), "num_labels": settings.num_labels},
        "weights": place(weights, adoption, request),
    }
    adoption.take(f"arguments from {_CONFIG}")
    adoption.weights = weights
    if config.get("problem_type") == _LABELS_OF_SEVERAL:
        adoption.fields["scores"] = "sigmoid"
        adoption.take(f"scores: sigmoid, because problem_type in {_CONFIG} is {_LABELS_OF_SEVERAL}")
    if labels and any(name != f"LABEL_{index}" for index, name in labels.items()):
        adoption.labels = labels_in(folder / _CONFIG)
        adoption.take(f"{len(labels)} classes from id2label in {_CONFIG}")
    if request.like is None:
        _set_input(adoption, folder)


def _set_input(adoption: Adoption, folder: Path) -> None:
    spec, transform = _processor(folder)
    if spec.fit == "crop" or spec.crop_percentage is not None:  # transformers rounds half a pixel of the crop down
        spec = msgspec.structs.replace(spec, crop_offset="floor")
    if check_input(spec, transform, _PREPROCESSOR):
        adoption.assume("input.crop", spec.crop, "some pictures are cut one pixel beside where transformers does")
    adoption.input = input_fields(spec)
    adoption.take(f"input from {_PREPROCESSOR}")


def _processor(folder: Path) -> tuple[Input, Callable[[Image.Image], Tensor]]:
    """The input that a folder's processor makes, and the processor itself."""
    from transformers import AutoImageProcessor

    if "auto_map" in _json(folder / _PREPROCESSOR):
        raise UserError(f"{folder / _PREPROCESSOR} brings code of its own (auto_map), which is not run; use LIKE=")
    try:
        processor: Any = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    except Exception as error:  # each processor of transformers reads its fields in its own way
        raise UserError(f"{folder / _PREPROCESSOR}: transformers cannot read it: {str(error)[:200]}") from error
    said = {key: value for key, value in processor.to_dict().items() if value is not None}
    kind = type(processor).__name__.removesuffix("Pil").removesuffix("ImageProcessor")

    def transform(picture: Image.Image) -> Tensor:
        try:
            made: Tensor = processor(picture, return_tensors="pt")["pixel_values"][0]
        except Exception as error:  # what it read does not go together
            raise UserError(f"{folder / _PREPROCESSOR}: transformers cannot use it: {str(error)[:200]}") from error
        return made

    try:
        return _input(said, kind), transform
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{_PREPROCESSOR}: a recipe cannot say this: {type(error).__name__}: {error}") from error


def _input(said: dict[str, Any], kind: str) -> Input:
    """The input that settings of a processor mean.

    Raises:
        KeyError, TypeError, ValueError: they are none that a recipe can say.
    """
    if not said.get("do_resize"):
        raise ValueError("do_resize is off: the model takes pictures of any size")
    mean, std = _statistics(said, kind)
    scale = said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 1.0
    return input_of(
        mean=mean,
        std=std,
        scale=scale,
        interpolation=_INTERPOLATIONS[int(said["resample"])],
        channels="bgr" if said.get("do_flip_channel_order") else "rgb",
        **_geometry(said, kind),
    )


def _statistics(said: dict[str, Any], kind: str) -> tuple[Any, Any]:
    if not said.get("do_normalize"):
        return 0.0, 1.0
    mean, std = said["image_mean"], said["image_std"]
    if kind == "EfficientNet" and said.get("include_top"):  # divides by the deviation a second time
        std = [value**2 for value in std]
    return mean, std


def _geometry(said: dict[str, Any], kind: str) -> dict[str, Any]:
    """The size, the fit and what is resized to."""
    size = said["size"]
    cropped = said.get("do_center_crop") and "crop_size" in said
    crop = (said["crop_size"]["height"], said["crop_size"]["width"]) if cropped else None
    short = size.get("shortest_edge")
    if short is None:
        whole = size["height"], size["width"]
        if crop is None or crop == whole:
            return {"size": whole, "fit": "squash"}
        return {"size": crop, "fit": "squash", "crop_percentage": _share(crop, whole)}
    if kind == "ConvNext":
        side = short, short
        if short >= _WARPED_FROM:
            return {"size": side, "fit": "squash"}
        return {"size": side, "resize": int(short / said["crop_pct"])}
    if kind == "PoolFormer" and said.get("crop_pct"):
        short = int(short / said["crop_pct"])
    elif kind == "Levit":
        short = int(short * _LEVIT)
    if crop is None:
        raise ValueError("the short side is resized, but nothing is cropped: pictures keep different sizes")
    return {"size": crop, "resize": short}


def _share(crop: tuple[int, int], whole: tuple[int, int]) -> float:
    """The crop percentage that gives exactly this whole."""
    share = crop[0] / whole[0]
    if any(int(side / share) != full for side, full in zip(crop, whole, strict=True)):
        raise ValueError(f"a crop of {crop} from {whole} is not the same share of both sides")
    return share
