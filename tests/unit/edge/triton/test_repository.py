import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest
from classifier.digests import verify
from classifier.errors import BrokenArchiveError
from classifier.recipe import Serving, read_recipe
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from edge.triton.repository import STEPS, Backend, Version, settings, version_number, write_repository
from scripts.archives.store import Archive, find_archive
from scripts.building.build import build
from scripts.building.options import Options
from scripts.console import UserError
from tests.conftest import THIRD_MODEL, TINY_RECIPE

Find = Callable[..., Archive]


@pytest.fixture(scope="module")
def find(tiny_archive: Callable[..., Path]) -> Find:
    """An archive of tiny for a runtime."""

    def archive(runtime: str) -> Archive:
        path = tiny_archive(runtime)
        return find_archive(path.name, path.parent)

    return archive


def written(repository: Path, *archives: Archive, backend: Backend = "python") -> dict[str, Any]:
    """The configurations of a new repository by model, as Triton's own messages: what it would not know is refused."""
    folders = write_repository(archives, backend, repository)
    texts = {folder.name: (folder / "config.pbtxt").read_text() for folder in folders}
    return {name: text_format.Parse(text, model_config_pb2.ModelConfig()) for name, text in texts.items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("backend", ["python", "onnxruntime"])
@pytest.mark.slow
def test_the_configurations_say_what_the_recipe_says(find: Find, tmp_path: Path, backend: Backend) -> None:
    configs = written(tmp_path, find("onnxruntime"), backend=backend)
    recipe = read_recipe(TINY_RECIPE)
    network = configs["tiny_network"]
    assert network.backend == backend
    assert network.dynamic_batching.max_queue_delay_microseconds == 1000 * recipe.serving.max_batch_delay_ms
    assert [group.count for group in network.instance_group] == [recipe.serving.workers]
    assert network.parameters["intra_op_thread_count"].string_value == str(recipe.serving.threads)
    assert list(network.input[0].dims) == [recipe.input.crop, recipe.input.crop, 3]
    assert list(network.output[0].dims) == [10]
    assert {config.max_batch_size for config in configs.values()} == {recipe.serving.batch_size}
    assert all(configs[f"tiny_{name}"].HasField("dynamic_batching") for name in STEPS)
    assert configs["tiny_decode"].input[0].allow_ragged_batch  # files differ in length


def test_an_archives_own_serving_counts_and_all_cores_are_onnx_runtimes_own_choice() -> None:
    serving = Serving(batch_size=16, max_batch_delay_ms=7, workers=3, threads="all", max_instances=1)
    recipe = msgspec.structs.replace(read_recipe(TINY_RECIPE), serving=serving)
    version = Version(folder=Path(), number=502, serialized_file="", recipe=recipe, classes=10)
    values = settings(version, "python")
    names = ("version", "batch_size", "delay_us", "workers", "threads")
    assert [values[name] for name in names] == [502, 16, 7000, 3, 0]


def test_the_warm_up_runs_one_picture_and_a_full_batch(find: Find, tmp_path: Path) -> None:
    network = written(tmp_path, find("eager"))["tiny_network"]
    assert [sample.batch_size for sample in network.model_warmup] == [1, 4]
    for sample in network.model_warmup:
        pixels = sample.inputs[network.input[0].name]
        assert (pixels.data_type, list(pixels.dims)) == (network.input[0].data_type, list(network.input[0].dims))
        assert pixels.zero_data


def test_the_steps_fit_each_other_and_the_ensemble(find: Find, tmp_path: Path) -> None:
    configs = written(tmp_path, find("eager"))
    ensemble = configs["tiny"]
    tensors = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        config = configs[step.model_name]
        for tensor in config.input:
            assert tensors[step.input_map[tensor.name]] == (tensor.data_type, list(tensor.dims))
        for tensor in config.output:
            tensors[step.output_map[tensor.name]] = (tensor.data_type, list(tensor.dims))
    for tensor in ensemble.output:
        assert tensors[tensor.name] == (tensor.data_type, list(tensor.dims))


@pytest.mark.slow
def test_every_archive_is_a_version_and_the_last_one_answers(find: Find, tmp_path: Path) -> None:
    for order, answering in ((("eager", "torchscript"), 200), (("torchscript", "eager"), 100)):
        configs = written(tmp_path, *map(find, order))
        for name in STEPS:
            versions = sorted(path.name for path in (tmp_path / f"tiny_{name}").iterdir() if path.is_dir())
            assert versions == ["100", "200"]
            assert configs[f"tiny_{name}"].version_policy.HasField("all")
        assert {step.model_version for step in configs["tiny"].ensemble_scheduling.step} == {answering}
        assert [path.name for path in (tmp_path / "tiny").iterdir() if path.is_dir()] == [str(answering)]


@pytest.mark.parametrize(("version", "number"), [("1.0", 100), ("3", 300), ("5.1", 501), ("5.10", 510), ("0.1", 1)])
def test_versions_become_whole_numbers_in_the_same_order(version: str, number: int) -> None:
    assert version_number(version) == number


@pytest.mark.parametrize("version", ["0.0", "0", "1.2.3", "1.100"])
def test_a_version_without_a_number_is_refused(version: str) -> None:
    with pytest.raises(UserError, match="build with VERSION="):
        version_number(version)


@pytest.mark.slow
def test_two_builds_give_the_same_bytes(find: Find, tmp_path: Path) -> None:
    for folder in ("first", "second"):
        write_repository([find("eager"), find("onnxruntime")], "python", tmp_path / folder)
    first = contents(tmp_path / "first")
    assert first == contents(tmp_path / "second")
    assert first
    assert not any(str(tmp_path).encode() in content for content in first.values())


def test_a_new_build_replaces_the_models_versions_and_leaves_other_models(find: Find, tmp_path: Path) -> None:
    (tmp_path / "other" / "1").mkdir(parents=True)
    write_repository([find("torchscript")], "python", tmp_path)
    write_repository([find("eager")], "python", tmp_path)
    assert sorted(path.name for path in (tmp_path / "tiny_network").iterdir()) == ["100", "config.pbtxt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "other", "tiny", "tiny_decode", "tiny_network", "tiny_rank",
    ]  # fmt: skip


def test_the_core_travels_with_every_step_and_the_weights_with_the_network_alone(find: Find, tmp_path: Path) -> None:
    archive = find("eager")
    write_repository([archive], "python", tmp_path)
    for name in STEPS:
        folder = tmp_path / f"tiny_{name}" / "100"
        verify(folder)
        assert (folder / "classifier" / "pipeline.py").exists()
        assert (folder / archive.identity.serialized_file).exists() == (name == "network")
    changed = tmp_path / "tiny_rank" / "100" / "labels.json"
    changed.write_text(changed.read_text().replace("star", "moon"))
    with pytest.raises(BrokenArchiveError, match=r"labels\.json was changed"):
        verify(changed.parent)


@pytest.mark.slow
def test_the_onnx_file_has_the_tensors_of_its_configuration(find: Find, tmp_path: Path) -> None:
    network = written(tmp_path, find("onnxruntime"), backend="onnxruntime")["tiny_network"]
    folder = tmp_path / "tiny_network" / "400"
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "tiny.onnx.data"]
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    shape = (network.max_batch_size, *network.input[0].dims)
    (logits,) = session.run([network.output[0].name], {network.input[0].name: np.zeros(shape, np.uint8)})
    assert logits.shape == (network.max_batch_size, *network.output[0].dims)
    assert (session.get_inputs()[0].type, session.get_outputs()[0].type) == ("tensor(uint8)", "tensor(float)")
    data_types = model_config_pb2.DataType.Name
    assert data_types(network.input[0].data_type) == "TYPE_UINT8"
    assert data_types(network.output[0].data_type) == "TYPE_FP32"


@pytest.mark.slow
def test_tritons_onnx_runtime_is_given_no_other_archive(find: Find, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tiny-eager-1\.0\.mar is for eager; BACKEND=python runs it"):
        write_repository([find("onnxruntime"), find("eager")], "onnxruntime", tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_archives_that_do_not_go_together_are_refused(find: Find, options: Options, tmp_path: Path) -> None:
    eager = find("eager")
    other = msgspec.structs.replace(
        eager,
        identity=msgspec.structs.replace(
            eager.identity, model=msgspec.structs.replace(eager.identity.model, name="other", version="9.0")
        ),
    )
    with pytest.raises(UserError, match="archives of one model"):
        write_repository([eager, other], "python", tmp_path / "repository")
    twin, _ = build(msgspec.structs.replace(options, runtime="torchscript", version="1.0"))
    with pytest.raises(UserError, match="the same version"):
        write_repository([eager, find_archive(twin.name, twin.parent)], "python", tmp_path / "repository")


def test_archives_with_other_sizes_of_pictures_are_refused(find: Find, options: Options, tmp_path: Path) -> None:
    shutil.copy(THIRD_MODEL / "labels.json", tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY_RECIPE.read_text().replace("crop: 32", "crop: 36"))
    larger, _ = build(msgspec.structs.replace(options, recipe=tmp_path / "tiny.yaml", runtime="torchscript"))
    with pytest.raises(UserError, match="differ in input"):
        write_repository([find("eager"), find_archive(larger.name, larger.parent)], "python", tmp_path / "repository")
    assert list((tmp_path / "repository").iterdir()) == []


def test_a_broken_archive_leaves_what_was_there(find: Find, tmp_path: Path) -> None:
    write_repository([find("eager")], "python", tmp_path / "repository")
    before = contents(tmp_path / "repository")
    whole = find("torchscript")
    broken = tmp_path / "tiny-torchscript-2.0.mar"
    content = bytearray(whole.path.read_bytes())
    content[len(content) // 2] ^= 1
    broken.write_bytes(content)
    with pytest.raises(UserError, match="build it again"):
        write_repository([msgspec.structs.replace(whole, path=broken)], "python", tmp_path / "repository")
    assert contents(tmp_path / "repository") == before
    assert [path.name for path in tmp_path.glob(".*")] == []
