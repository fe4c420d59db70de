"""Adopts models of torchvision and timm by their names, with their own weights or the user's."""

from difflib import get_close_matches
from typing import Any, Final

import requests
from classifier.input import Input
from classifier.places import DIGEST_IN_NAME

from scripts.adopting.adoption import (
    IMAGENET,
    Adoption,
    Request,
    input_fields,
    input_of,
    labels_of,
    model_name,
    whole_input,
)
from scripts.adopting.own_weights import give_weights
from scripts.adopting.trial import check_input
from scripts.console import UserError
from scripts.packages import require

# Arguments that the state_dicts of these two fit with; init_weights only saves time. With pretrained weights
# torchvision sets transform_input.
_GOOGLE: Final = {"transform_input": True, "aux_logits": True, "init_weights": False}
_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {"googlenet": _GOOGLE, "inception_v3": _GOOGLE}
_HUB: Final = "https://huggingface.co/{model}/resolve/{revision}/{file}"
_HUB_FILES: Final = ("model.safetensors", "pytorch_model.bin")
_TIMEOUT_S: Final = 30


def adopt_torchvision(name: str, request: Request) -> Adoption:
    """Adopt `resnet50`, or `ResNet50_Weights.IMAGENET1K_V2`; input and classes come with the weights.

    Raises:
        UserError: torchvision has no such classifier, or the user's weights do not fit it.
    """
    model, weights = _torchvision(name)
    adoption = Adoption(name=request.name or model_name(model), source=f"torchvision:{name}")
    adoption.fields["architecture"] = f"torchvision:{model}"
    preset = weights.transforms()
    spec = input_of(
        tuple(preset.crop_size * 2)[:2],
        preset.mean,
        preset.std,
        resize=preset.resize_size[0],
        interpolation=preset.interpolation.value,
    )
    if request.like is None:
        check_input(spec, preset, f"torchvision's {weights}")
    arguments = _ARGUMENTS.get(model, {})
    if request.weights is not None:
        adoption.assume("input", whole_input(spec), f"as torchvision's {weights}; your training may have differed")
        tries = [arguments, {**arguments, "aux_logits": False}] if arguments else [{}]
        give_weights(adoption, request, tries)
        if arguments:
            why = "transform_input, as if trained on from torchvision's weights"
            adoption.assume("arguments", adoption.fields["arguments"], why)
        return adoption
    adoption.input = input_fields(spec)
    adoption.take(f"input from the transforms of {weights}")
    adoption.fields |= {"arguments": arguments} if arguments else {}
    adoption.fields["weights"] = f"torchvision:{weights}"
    categories = weights.meta["categories"]
    if categories == _torchvision("vgg16")[1].meta["categories"]:
        adoption.labels = IMAGENET
    else:
        adoption.labels = labels_of(categories)
    adoption.take(f"{len(categories)} classes from {weights}")
    return adoption


def _torchvision(name: str) -> tuple[str, Any]:
    """The name of a function of torchvision.models, and its weights of that name or the best ones."""
    from torchvision import models

    names = models.list_models(module=models)
    enums = {models.get_model_weights(model).__name__: model for model in names}
    enum, _, member = name.partition(".")
    if enum in enums:
        found = models.get_model_weights(enums[enum]).__members__
        if member and member not in found:
            raise UserError(f"torchvision's {enum} has no {member}; it has {', '.join(found)}")
        model, weights = enums[enum], found[member or "DEFAULT"]
    elif name in names:
        model, weights = name, models.get_model_weights(name).DEFAULT
    else:
        raise UserError(f"torchvision has no classifier {name}{_near(name, [*names, *enums])}")
    if not weights.meta.get("categories"):
        raise UserError(f"torchvision's {weights} has no classes: it computes features")
    return model, weights


def adopt_timm(name: str, request: Request) -> Adoption:
    """Adopt `resnet18` or `resnet18.a1_in1k`; the input is timm's own data config.

    Raises:
        UserError: timm has no such model, its weights cannot be reached, or the user's do not fit.
    """
    require("timm", why=f"timm:{name}")
    import timm

    if not timm.is_model(name):
        raise UserError(f"timm has no model {name}{_near(name, timm.list_models())}")
    config = timm.get_pretrained_cfg(name)
    if config is None:
        raise UserError(f"timm has no configuration for {name}{_near(name, timm.list_pretrained())}")
    adoption = Adoption(name=request.name or model_name(name), source=f"timm:{name}")
    adoption.fields["architecture"] = f"timm:{name}"
    whole = f"{config.architecture}.{config.tag}" if config.tag else config.architecture
    if request.like is None:
        set_timm_input(adoption, config.to_dict(), f"timm's configuration of {whole}", request.weights is not None)
    if request.weights is not None:
        give_weights(adoption, request)
        return adoption
    adoption.fields["weights"] = _timm_weights(name, config)
    adoption.labels = timm_labels(config.to_dict())
    adoption.take(f"{config.num_classes} classes from timm's configuration of {whole}")
    return adoption


def set_timm_input(adoption: Adoption, config: dict[str, Any], whose: str, own: bool) -> None:
    """Set the input to what timm's evaluation does; `own` weights may have been trained with another one.

    Raises:
        UserError: timm cannot use the configuration, or a recipe cannot say what it does.
    """
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    try:
        data = resolve_data_config({}, pretrained_cfg=config)
        spec = _timm_input(data, whose)
        transform = create_transform(**data, is_training=False)
    except (AssertionError, KeyError, TypeError, ValueError, AttributeError) as error:  # timm takes fields as they are
        raise UserError(f"{whose}: timm or a recipe cannot use this: {type(error).__name__}: {error}") from error
    if spec.depth > 1:  # of one channel timm's transform makes three
        check_input(spec, transform, whose)
    if own:
        adoption.assume("input", whole_input(spec), f"as {whose}; your training may have differed")
    else:
        adoption.input = input_fields(spec)
        adoption.take(f"input from {whose}")


def _timm_input(data: dict[str, Any], whose: str) -> Input:
    channels, height, width = data["input_size"]
    fits = {"center": "crop", "squash": "squash", "border": "pad"}
    if channels not in (1, 3):
        raise UserError(f"{whose} takes {channels} channels; pictures have 1 or 3")
    fit = fits[data["crop_mode"]]
    percentage = {} if fit == "pad" else {"crop_percentage": min(data["crop_pct"], 1.0)}
    others = {"fit": fit, "channels": "grey" if channels == 1 else "rgb", "interpolation": data["interpolation"]}
    means, deviations = (data[key] if channels == 3 else sum(data[key]) / len(data[key]) for key in ("mean", "std"))
    return input_of((height, width), means, deviations, **others, **percentage)


def timm_labels(config: dict[str, Any]) -> Any:
    """The labels in a configuration of timm, or ImageNet's by their number; None if neither says."""
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    names, descriptions = config.get("label_names"), config.get("label_descriptions") or {}
    if names:
        texts = [descriptions.get(name) if isinstance(descriptions, dict) else None for name in names]
        pairs = zip(names, texts, strict=True)
        return labels_of([name if text is None else (name, text) for name, text in pairs])
    subset = infer_imagenet_subset(config)
    if subset is None:
        return None
    if subset == "imagenet-1k":
        return IMAGENET
    info = ImageNetInfo(subset)
    return labels_of([(name, info.label_name_to_description(name)) for name in info.label_names()])


def _timm_weights(name: str, config: Any) -> str:
    """The address of timm's weights, with something to check them by."""
    if config.url and DIGEST_IN_NAME.search(config.url):
        return str(config.url)
    if not config.hf_hub_id:
        raise UserError(f"timm has no trained weights for {name}; pass WEIGHTS=<your checkpoint>")
    failures = []
    for file in [config.hf_hub_filename] if config.hf_hub_filename else _HUB_FILES:
        address = _HUB.format(model=config.hf_hub_id, revision="main", file=file)
        try:
            answer = requests.head(address, timeout=_TIMEOUT_S)
        except requests.RequestException as error:
            raise UserError(
                f"timm's weights of {name} cannot be reached at {address}: {type(error).__name__}; "
                "try again when there is a network, or pass WEIGHTS=<checkpoint>"
            ) from error
        sha256, revision = answer.headers.get("X-Linked-ETag", "").strip('"'), answer.headers.get("X-Repo-Commit")
        if answer.status_code < requests.codes.bad_request and sha256 and revision:
            return f"{_HUB.format(model=config.hf_hub_id, revision=revision, file=file)}#sha256={sha256}"
        failures.append(f"{address}: {answer.status_code}")
    raise UserError(f"timm's weights of {name} are not where they should be: {'; '.join(failures)}")


def _near(name: str, names: list[str]) -> str:
    found = get_close_matches(name, names, n=3, cutoff=0.5)
    return f"; near it: {', '.join(found)}" if found else ""
