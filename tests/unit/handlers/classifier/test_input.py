from typing import Any

import msgspec
import pytest
from classifier.input import NORMALIZATIONS, Input, Normalization


def of(**fields: Any) -> Input:
    """An input as a recipe's reader makes it."""
    return msgspec.convert(fields, Input)


def test_without_a_word_it_is_what_most_models_of_imagenet_take() -> None:
    spec = of()
    assert (spec.size, spec.scaled, spec.depth) == ((224, 224), (256, 256), 3)
    assert (spec.fit, spec.interpolation, spec.channels, spec.layout) == ("crop", "bilinear", "rgb", "nchw")
    assert (spec.mean, spec.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert (spec.batch, spec.example_batch, spec.max_pixels) == (None, 2, 64_000_000)


@pytest.mark.parametrize(
    ("fields", "size", "scaled"),
    [
        ({"crop": 299}, (299, 299), (341, 341)),  # 341.7: rounded down, as timm does
        ({"crop": 224, "resize": 232}, (224, 224), (232, 232)),
        ({"crop": 288, "crop_percentage": 0.95}, (288, 288), (303, 303)),
        ({"crop": 240, "crop_percentage": 1}, (240, 240), (240, 240)),
        ({"crop": [192, 256]}, (192, 256), (292, 292)),  # the short side has room for the longer one
        ({"crop": [192, 256], "resize": 256}, (192, 256), (256, 256)),
        ({"crop": 224, "fit": "squash"}, (224, 224), (224, 224)),
        ({"crop": [64, 128], "fit": "squash"}, (64, 128), (64, 128)),
        ({"crop": [64, 128], "fit": "squash", "crop_percentage": 0.9}, (64, 128), (71, 142)),
        ({"crop": [64, 128], "fit": "pad"}, (64, 128), (64, 128)),
    ],
)
def test_the_sizes_of_each_fit(fields: dict[str, Any], size: tuple[int, int], scaled: tuple[int, int]) -> None:
    spec = of(**fields)
    assert (spec.size, spec.scaled) == (size, scaled)


@pytest.mark.parametrize(
    ("channels", "normalization", "mean", "std"),
    [
        ("rgb", "half", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ("rgb", {"mean": 0.25, "std": [2]}, [0.25] * 3, [2.0] * 3),
        ("rgb", {"scale": 1}, [0.0] * 3, [1.0] * 3),
        ("bgr", {"mean": [103.5, 116.25, 123.5], "scale": 1}, [103.5, 116.25, 123.5], [1.0] * 3),
        ("grey", "half", [0.5], [0.5]),
        ("grey", {"mean": 0.1307, "std": 0.3081}, [0.1307], [0.3081]),
        ("grey", {"mean": [0.1307]}, [0.1307], [1.0]),
    ],
)
def test_there_is_a_mean_and_a_deviation_for_each_channel(
    channels: str, normalization: object, mean: list[float], std: list[float]
) -> None:
    spec = of(channels=channels, normalization=normalization)
    assert (spec.depth, spec.mean, spec.std) == (len(mean), mean, std)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resize": 256, "crop_percentage": 0.9}, "resize and crop_percentage say the same"),
        ({"resize": 256, "fit": "squash"}, "resize is for fit: crop; with fit: squash"),
        ({"resize": 256, "fit": "pad"}, "resize is for fit: crop; with fit: pad"),
        ({"crop_percentage": 0.9, "fit": "pad"}, "crop_percentage is not for fit: pad"),
        ({"crop": [100, 257], "resize": 256}, r"crop \(257\) must not be larger than resize \(256\)"),
        ({"crop": 4097}, "<= 4096"),
        ({"crop": [224]}, "length >= 2"),
        ({"crop_percentage": 0}, "> 0"),
        ({"crop_percentage": 1.01}, "<= 1"),
        ({"channels": "grey", "normalization": "imagenet"}, r"normalization\.mean has 3 values for 1 channels"),
        ({"normalization": {"mean": [0.5, 0.5]}}, r"normalization\.mean has 2 values for 3 channels"),
        ({"normalization": {"std": [0.5, 0.5]}}, r"normalization\.std has 2 values for 3 channels"),
        ({"normalization": {"std": 0}}, "std must be above 0"),
        ({"normalization": {"std": [1, 1, -1]}}, "std must be above 0"),
        ({"normalization": {"mean": float("nan")}}, "must be finite numbers"),
        ({"normalization": {"std": float("inf")}}, "must be finite numbers"),
        ({"normalization": {"scale": 0}}, "> 0"),
        ({"batch": 0}, ">= 1"),
    ],
)
def test_what_contradicts_itself_or_is_out_of_range_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        of(**fields)


def test_a_grey_model_without_a_normalization_of_its_own_is_told_what_is_missing() -> None:
    with pytest.raises(msgspec.ValidationError, match="3 values for 1 channels"):
        of(channels="grey")


def test_a_fixed_batch_is_the_size_that_exporters_trace() -> None:
    assert of(batch=4).example_batch == 4


def test_the_named_normalizations_are_numbers_too() -> None:
    assert of(normalization="half").statistics == NORMALIZATIONS["half"] == Normalization(mean=0.5, std=0.5)


@pytest.mark.parametrize(
    "fields",
    [
        {"resize": 13378},
        {"resize": 10**400},
        {"crop_percentage": 0.016},
        {"crop_percentage": 1e-320},
        {"fit": "squash", "crop_percentage": 0.001},
    ],
)
def test_a_size_that_no_memory_holds_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="would be resized to more than 13377 pixels"):
        of(**fields)
    assert of(resize=13377).scaled == (13377, 13377)
