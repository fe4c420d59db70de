import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from classifier.recipe import read_recipe
from classifier.runtimes.eager import load_module
from PIL import Image
from torch import nn

from scripts.building.build import build
from scripts.building.options import Options
from scripts.console import UserError
from scripts.measuring.prune import plot, prune_model, pruned, table
from tests.conftest import TINY_RECIPE


class Small(nn.Module):
    """Small weights in one layer, large ones in the other, and a depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.small = nn.Linear(10, 10)
        self.large = nn.Linear(10, 10)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        with torch.no_grad():
            self.small.weight.uniform_(0.1, 0.2)
            self.large.weight.uniform_(1, 2)
            self.depthwise.weight.fill_(1e-6)


def test_the_smallest_of_all_weights_become_zero_and_no_others() -> None:
    whole = Small()
    half = pruned(whole, 0.5)
    assert half.get_parameter("small.weight").count_nonzero() == 0
    assert torch.equal(half.get_parameter("large.weight"), whole.large.weight)
    assert half.state_dict().keys() == whole.state_dict().keys()
    assert whole.small.weight.count_nonzero() == 100  # the module itself is left alone


def test_depthwise_convolutions_and_biases_are_left_alone() -> None:
    whole = Small()
    most = pruned(whole, 0.99)
    assert most.get_parameter("depthwise.weight").count_nonzero() == 36
    assert torch.equal(most.get_parameter("small.bias"), whole.small.bias)


def test_weights_in_channels_last_can_be_pruned() -> None:
    module = nn.Conv2d(8, 8, 3).to(memory_format=torch.channels_last)
    assert pruned(nn.Sequential(module), 0.5).get_parameter("0.weight").count_nonzero() == 8 * 8 * 9 // 2


def test_a_pruned_state_dict_builds_an_archive(
    tiny_archive: Callable[..., Path], golden: Path, tmp_path: Path, options: Options
) -> None:
    store = tiny_archive("eager").parent
    found = prune_model("tiny", store, tmp_path, (0.0, 0.5, 0.9), golden)
    assert [item.path.name for item in found] == [f"tiny-pruned-{share}.pth" for share in (0, 50, 90)]
    assert (found[0].agreement, found[0].max_abs_logit < 1e-5) == (1.0, True)
    assert found[0].max_abs_logit < found[1].max_abs_logit
    assert found[0].compressed > found[1].compressed > found[2].compressed
    assert all(item.milliseconds > 0 for item in found)
    module = load_module(read_recipe(TINY_RECIPE), found[2].path)
    zeros = sum(
        int((layer.weight == 0).sum()) for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    )
    assert zeros == round(0.9 * (8 * 3 * 9 + 10 * 128))
    path, report = build(msgspec.structs.replace(options, weights=str(found[1].path)))
    assert (path.exists(), report.top1_agreement) == (True, 1.0)


def test_shares_that_are_none_are_refused_before_anything_is_written(
    tiny_archive: Callable[..., Path], golden: Path, tmp_path: Path
) -> None:
    store = tiny_archive("eager").parent
    for share in (1.0, -0.1, float("nan"), 30):
        with pytest.raises(UserError, match=re.escape(f"SPARSITY={share}")):
            prune_model("tiny", store, tmp_path / "pruned", (0.5, share), golden)
    assert not (tmp_path / "pruned").exists()


def test_the_result_is_a_table_and_a_picture(tiny_archive: Callable[..., Path], golden: Path, tmp_path: Path) -> None:
    found = prune_model("tiny", tiny_archive("eager").parent, tmp_path, (0.0, 0.5), golden)
    assert table(found).row_count == 2
    plot(found, tmp_path / "tiny.png")
    with Image.open(tmp_path / "tiny.png") as image:
        assert min(image.size) > 100
