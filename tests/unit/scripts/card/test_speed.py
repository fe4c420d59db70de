import re
import time

import numpy as np
import pytest
from classifier.pipeline import Classifier
from msgspec.structs import replace
from numpy.typing import NDArray

from scripts.card.speed import Clock, Turn, ratio, speed, take_turns, this_machine


def test_a_slower_model_is_found_slower(tiny: Classifier, cat: bytes) -> None:
    def slow(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(0.05)
        return tiny.forward(pixels)

    own, other = take_turns([tiny, replace(tiny, forward=slow)], cat)
    assert len(own) == len(other) == 5
    assert speed(other).lone_ms > 50
    assert speed(other).rate < tiny.recipe.serving.batch_size / 0.05
    assert ratio(own, other).lone < 1
    assert ratio(own, other).rate < 1


def test_models_take_turns(tiny: Classifier, cat: bytes) -> None:
    called: list[str] = []

    def named(name: str) -> Classifier:
        def forward(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            called.append(name)
            return tiny.forward(pixels)

        return replace(tiny, forward=forward)

    take_turns([named("a"), named("b")], cat)
    assert re.fullmatch(r"(a+b+){6}", "".join(called))  # a round to warm up, and five


def test_a_picture_that_cannot_be_read_is_refused(tiny: Classifier) -> None:
    with pytest.raises(ValueError, match="cannot be measured"):
        take_turns([tiny], b"no picture")


def test_figures_are_medians_and_ratios_those_of_the_rounds() -> None:
    own = [Turn(10, 100), Turn(20, 50), Turn(12, 90)]
    other = [Turn(5, 200), Turn(10, 100), Turn(24, 45)]
    found = speed(own)
    assert (found.lone_ms, found.lone_range_ms, found.rate, found.rate_range) == (12, (10, 20), 90, (50, 100))
    assert (ratio(own, other).lone, ratio(own, other).rate) == (2, 2)


def test_other_programs_are_told_from_this_one() -> None:
    begin = Clock(moment=0, all=100, own=1)
    cores = Clock(moment=10, all=100 + 9, own=1 + 9)
    assert cores.others_since(begin) == 0
    assert Clock(moment=10, all=109, own=4).others_since(begin) > 0
    assert Clock(moment=10, all=1e9, own=1).others_since(begin) == 1
    first = Clock.read()
    assert 0 <= Clock.read().others_since(replace(first, moment=first.moment - 1)) <= 1


def test_the_machine_is_described() -> None:
    machine = this_machine()
    assert machine.processor
    assert machine.cores >= 1
    assert machine.memory_gib > 0
