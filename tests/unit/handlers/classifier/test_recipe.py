import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from classifier.errors import UnusableError
from classifier.recipe import PRECISIONS, Precision, RuntimeName, Tolerance, Variant, read_recipe

from tests.conftest import TINY_RECIPE

RECIPES = Path(__file__).parents[4] / "recipes"

Change = Callable[[dict[str, Any]], object]


def altered(tmp_path: Path, change: Change) -> Path:
    """The recipe of tiny with a change."""
    content = yaml.safe_load(TINY_RECIPE.read_text())
    change(content)
    path = tmp_path / "altered.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_of_the_project_loads_under_the_name_of_its_file(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert recipe.variant("eager", "float32").version == "1.0"
    assert recipe.variant("torchscript", "float32").version == "2.0"


def test_the_project_has_the_recipes_of_its_two_models() -> None:
    assert {"vgg16.yaml", "efficientnet_lite0.yaml"} <= {path.name for path in RECIPES.iterdir()}


def test_what_a_recipe_leaves_out_has_documented_defaults(tmp_path: Path) -> None:
    recipe = read_recipe(altered(tmp_path, lambda recipe: recipe["serving"].pop("threads")))
    assert recipe.serving.threads == "all"
    assert recipe.archives[0].precision == "float32"
    assert (recipe.input.interpolation, recipe.input.normalization) == ("bilinear", "imagenet")
    assert (recipe.serving.response_timeout_s, recipe.serving.startup_timeout_s) == (120, 300)
    tolerance = recipe.archives[0].allowed(1)
    assert (tolerance.top1_agreement, tolerance.top5_agreement) == (1.0, 1.0)


def test_the_usual_tolerance_follows_the_scale_of_the_outputs_and_the_recipes_own_does_not() -> None:
    usual = Variant(runtime="openvino", precision="bfloat16")
    assert [usual.allowed(largest).max_abs_logit for largest in (0.1, 1, 30)] == pytest.approx([0.1, 0.1, 3])
    assert usual.allowed(30).top1_agreement == usual.allowed(1).top1_agreement
    own = Tolerance(max_abs_logit=0.25)
    assert Variant(runtime="openvino", precision="int8", tolerance=own).allowed(30) == own


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param(lambda recipe: recipe.pop("name"), "name", id="missing"),
        pytest.param(lambda recipe: recipe["input"].pop("crop"), "crop", id="missing-in-input"),
        pytest.param(lambda recipe: recipe.update(colour=1), "colour", id="unknown"),
        pytest.param(lambda recipe: recipe["input"].update(colour=1), "colour", id="unknown-in-input"),
        pytest.param(lambda recipe: recipe["serving"].update(batchSize=8), "batchSize", id="unknown-in-serving"),
        pytest.param(lambda recipe: recipe["archives"][0].update(flavour="8"), "flavour", id="unknown-in-archive"),
        pytest.param(lambda recipe: recipe.update(weights=3), "weights", id="number-for-text"),
        pytest.param(lambda recipe: recipe["input"].update(resize="36"), "resize", id="text-for-number"),
        pytest.param(lambda recipe: recipe["input"].update(resize=36.5), "resize", id="half-a-pixel"),
        pytest.param(lambda recipe: recipe["input"].update(crop=37), "crop", id="crop-beyond-resize"),
        pytest.param(lambda recipe: recipe["input"].update(crop=0), "crop", id="no-crop"),
        pytest.param(lambda recipe: recipe["input"].update(interpolation="cubic"), "interpolation", id="cubic"),
        pytest.param(lambda recipe: recipe["input"].update(normalization="z"), "normalization", id="normalization"),
        pytest.param(lambda recipe: recipe["input"].update(max_pixels=178_956_971), "max_pixels", id="beyond-pillow"),
        pytest.param(lambda recipe: recipe["serving"].update(max_batch_delay_ms=-1), "max_batch_delay_ms", id="delay"),
        pytest.param(lambda recipe: recipe["serving"].update(batch_size=0), "batch_size", id="batch-0"),
        pytest.param(lambda recipe: recipe["serving"].update(threads=0), "threads", id="threads-0"),
        pytest.param(lambda recipe: recipe["serving"].update(threads="some"), "threads", id="threads-some"),
        pytest.param(lambda recipe: recipe["archives"][1].update(version=2.0), "version", id="version-number"),
        pytest.param(lambda recipe: recipe["archives"][1].update(version="v2"), "version", id="version-letter"),
        pytest.param(lambda recipe: recipe["archives"][1].update(version="2."), "version", id="version-dot"),
        pytest.param(lambda recipe: recipe["archives"][1].update(version="2.0\n"), "version", id="version-newline"),
        pytest.param(lambda recipe: recipe["archives"][1].update(version="\uff12.0"), "version", id="version-wide"),
        pytest.param(lambda recipe: recipe["archives"][0].update(runtime="abacus"), "runtime", id="runtime"),
        pytest.param(lambda recipe: recipe["archives"][0].update(precision="int3"), "precision", id="precision"),
        pytest.param(
            lambda recipe: recipe["archives"][0]["tolerance"].update(max_abs_logit=-1e-9), "max_abs_logit", id="below-0"
        ),
        pytest.param(
            lambda recipe: recipe["archives"][0]["tolerance"].update(top1_agreement=99), "top1_agreement", id="percent"
        ),
        pytest.param(lambda recipe: recipe.update(name="ti/ny"), "name", id="name-slash"),
        pytest.param(lambda recipe: recipe.update(name="tiny\n"), "name", id="name-newline"),
        pytest.param(lambda recipe: recipe.update(architecture="../tiny"), "architecture", id="architecture-path"),
    ],
)
def test_a_mistake_is_refused_naming_the_file_and_the_field(tmp_path: Path, change: Change, named: str) -> None:
    path = altered(tmp_path, change)
    with pytest.raises(UnusableError) as caught:
        read_recipe(path)
    where, _, fault = str(caught.value).partition(": ")
    assert re.fullmatch(rf"{re.escape(str(path))}:\d+", where)
    assert re.search(rf"\b{named}\b", fault)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"tiny",
        b"- tiny",
        b"name: [tiny",
        b"\tname: tiny",
        b"name: \xe9",
        b"\x89PNG\r\n\x1a\n",
        b"name: a\n---\nname: b\n",
        b"!!python/object/apply:os.getcwd []",
    ],
)
def test_what_is_no_recipe_at_all_is_refused_naming_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "nonsense.yaml"
    path.write_bytes(content)
    with pytest.raises(UnusableError, match=r"nonsense\.yaml"):
        read_recipe(path)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.yaml"):
        read_recipe(tmp_path / "nothing.yaml")


def test_one_archive_is_enough(tmp_path: Path) -> None:
    recipe = read_recipe(altered(tmp_path, lambda recipe: recipe.update(archives=recipe["archives"][:1])))
    assert [variant.runtime for variant in recipe.archives] == ["eager"]


def test_a_crop_may_be_as_large_as_the_resized_picture(tmp_path: Path) -> None:
    spec = read_recipe(altered(tmp_path, lambda recipe: recipe["input"].update(crop=36))).input
    assert spec.crop == spec.resize == 36


def test_a_variant_is_found_by_runtime_and_precision() -> None:
    assert read_recipe(TINY_RECIPE).variant("torchscript", "float32").version == "2.0"


@pytest.mark.parametrize(("runtime", "precision"), [("abacus", "float32"), ("eager", "int8")])
def test_a_variant_that_does_not_exist_is_refused_with_those_that_do(runtime: str, precision: str) -> None:
    with pytest.raises(UnusableError) as caught:
        read_recipe(TINY_RECIPE).variant(runtime, precision)
    message = str(caught.value)
    assert f"{runtime} {precision}" in message
    assert "eager float32" in message
    assert "torchscript float32" in message


@pytest.mark.parametrize("same", [{"runtime": "eager"}, {"version": "1.0"}], ids=["runtime-and-precision", "version"])
def test_archives_that_cannot_be_told_apart_are_refused(same: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="archives must differ"):
        read_recipe(altered(tmp_path, lambda recipe: recipe["archives"][1].update(same)))


def with_variant(tmp_path: Path, **variant: object) -> Path:
    """The recipe of tiny with one more archive and no other."""
    added = {"version": "9.0", "tolerance": {"max_abs_logit": 1}} | variant
    return altered(tmp_path, lambda recipe: recipe.update(archives=[added]))


OFFERED = [(runtime, precision) for runtime, precisions in PRECISIONS.items() for precision in precisions]
NOT_OFFERED = sorted({(runtime, precision) for runtime in PRECISIONS for precision in get_args(Precision)} - {*OFFERED})


def test_every_runtime_has_its_precisions() -> None:
    assert set(PRECISIONS) == set(get_args(RuntimeName))
    assert all("float32" in precisions for precisions in PRECISIONS.values())


@pytest.mark.parametrize(("runtime", "precision"), OFFERED)
def test_a_precision_that_a_runtime_computes_in_is_accepted(runtime: str, precision: str, tmp_path: Path) -> None:
    variant = read_recipe(with_variant(tmp_path, runtime=runtime, precision=precision)).variant(runtime, precision)
    assert (variant.version, variant.float32_layers) == ("9.0", [])


@pytest.mark.parametrize(("runtime", "precision"), NOT_OFFERED)
def test_a_precision_that_a_runtime_does_not_compute_in_is_refused_with_those_it_does(
    runtime: RuntimeName, precision: str, tmp_path: Path
) -> None:
    with pytest.raises(UnusableError) as caught:
        read_recipe(with_variant(tmp_path, runtime=runtime, precision=precision))
    assert "altered.yaml" in str(caught.value)
    assert f"{runtime} computes in {', '.join(PRECISIONS[runtime])}, not {precision}" in str(caught.value)


@pytest.mark.parametrize(("runtime", "precision"), OFFERED)
def test_layers_can_stay_in_float32_where_others_are_lowered_one_by_one(
    runtime: str, precision: str, tmp_path: Path
) -> None:
    path = with_variant(tmp_path, runtime=runtime, precision=precision, float32_layers=["features.0"])
    if (runtime, precision) in (("openvino", "bfloat16"), ("openvino", "int8")):
        assert read_recipe(path).variant(runtime, precision).float32_layers == ["features.0"]
    else:
        with pytest.raises(UnusableError, match=r"altered\.yaml:\d+: archives\[0\]: float32_layers is for openvino in"):
            read_recipe(path)


@pytest.mark.parametrize("layers", ["features.0", [3], {"features.0": True}])
def test_float32_layers_are_a_list_of_names(layers: object, tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="float32_layers"):
        read_recipe(with_variant(tmp_path, runtime="openvino", precision="int8", float32_layers=layers))


def test_versions_are_told_apart_as_numbers_and_are_not_endless(tmp_path: Path) -> None:
    archives = [{"runtime": "eager", "version": "1.0"}, {"runtime": "torchscript", "version": "1.00"}]
    with pytest.raises(UnusableError, match="each needs a version of its own"):
        read_recipe(altered(tmp_path, lambda fields: fields.update(archives=archives)))
    archives[1]["version"] = "9" * 5000
    with pytest.raises(UnusableError, match=r"archives\[1\]\.version: .* is not text of digits and dots"):
        read_recipe(altered(tmp_path, lambda fields: fields.update(archives=archives)))


@pytest.mark.parametrize("where", ["serving", "archives"])
def test_a_batch_is_at_most_as_large_as_a_worker_has_memory_for(where: str, tmp_path: Path) -> None:
    def with_batch(size: int) -> Change:
        own = {"archives": [{"runtime": "eager", "serving": {"batch_size": size}}]}
        chosen = {"serving": {"batch_size": size}} if where == "serving" else own
        return lambda fields: fields.update(chosen, input={"crop": 224})

    assert read_recipe(altered(tmp_path, with_batch(7133))).archives
    with pytest.raises(UnusableError, match=r"batch_size: 7134 pictures of 224 x 224 .* 4 GiB .*; at most 7133"):
        read_recipe(altered(tmp_path, with_batch(7134)))
