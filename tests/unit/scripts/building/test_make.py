import pytest
from classifier.recipe import read_recipe

from scripts.building import make
from tests.conftest import TINY_RECIPE


@pytest.mark.parametrize("native", [True, False])
def test_what_the_processor_cannot_compute_is_not_in_the_list_and_that_is_said(
    native: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make, "computes", lambda precision: native or precision != "bfloat16")
    listed = [" ".join(item) for item in make.variants_here(read_recipe(TINY_RECIPE))]
    everything = [f"{item.runtime} {item.precision}" for item in read_recipe(TINY_RECIPE).archives]
    assert any("bfloat16" in line for line in everything)
    assert listed == [line for line in everything if native or "bfloat16" not in line]
    assert ("without the archives in bfloat16" in capsys.readouterr().err) is not native
