from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from scripts.building.fitting import Fitted, MisfitError, fit
from scripts.console import UserError
from tests.unit.scripts.building.test_checkpoint import Net, assert_equal, state


def wanted(classes: int = 3) -> dict[str, torch.Size]:
    return {name: item.shape for name, item in Net(classes).state_dict().items()}


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: item for name, item in tensors.items()}


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "model.", "net.", "model._orig_mod.module.", "my_own."]
)
@pytest.mark.parametrize("entry", ["", "state_dict", "model.ema"])
def test_entry_and_prefix_are_found(entry: str, prefix: str) -> None:
    found = fit({"other": {"a": torch.ones(1)}, entry: prefixed(state(), prefix)}, wanted())
    assert (found.entry, found.prefix) == (entry, prefix)
    assert_equal(found.state_dict, state())
    assert [entry in note for note in found.notes[:1]] == ([True] if entry or prefix else [])


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod"])
@pytest.mark.parametrize("prefix", ["", "net."])
def test_a_part_of_the_module_may_be_wrapped(wrapper: str, prefix: str) -> None:
    wrapped = {name.replace("body.", f"body.{wrapper}."): item for name, item in state().items()}
    found = fit({"": prefixed(wrapped, prefix)}, wanted())
    assert_equal(found.state_dict, state())
    assert found.prefix == prefix
    assert found.notes[-1] == "'module.' or '_orig_mod.' is taken out of the middle of names"


def test_what_is_outside_the_prefix_is_left_out_and_said() -> None:
    found = fit({"": {**prefixed(state(), "model."), "loss.weight": torch.ones(3)}}, wanted())
    assert found.notes == ["'model.' is taken off the names", "left out, because without 'model.': loss.weight"]
    averaged = fit({"": {**prefixed(state(), "module."), "n_averaged": torch.tensor(7)}}, wanted())
    assert averaged.notes[-1] == "left out, because without 'module.': n_averaged"


def test_counters_may_be_missing_or_left_over() -> None:
    counter = "body.1.num_batches_tracked"
    old = {name: item for name, item in state().items() if name != counter}
    found = fit({"": old}, wanted())
    assert found.state_dict[counter].dtype == torch.int64
    assert found.notes == ["1 counters num_batches_tracked are missing, and 0"]
    shapes = {name: shape for name, shape in wanted().items() if name != counter}
    assert fit({"": state()}, shapes).notes == [f"left out: {counter}"]


def test_other_precisions_become_float32() -> None:
    found = fit(
        {"": {name: item.half() if item.is_floating_point() else item for name, item in state().items()}}, wanted()
    )
    assert {item.dtype for item in found.state_dict.values()} == {torch.float32, torch.int64}
    assert found.notes == ["converted to float32 from float16"]
    Net().load_state_dict(found.state_dict)


def test_of_several_that_fit_none_is_chosen_unless_it_is_named() -> None:
    other = {name: item + 1 for name, item in state().items()}
    checkpoint = {"state_dict": state(), "state_dict_ema": prefixed(other, "module.")}
    with pytest.raises(UserError, match="has 2 state_dicts that fit") as error:
        fit(checkpoint, wanted())
    assert "&entry=state_dict&prefix=; &entry=state_dict_ema&prefix=module." in str(error.value)
    assert_equal(fit(checkpoint, wanted(), entry="state_dict_ema").state_dict, other)
    two = {"": prefixed(state(), "student.") | prefixed(other, "teacher.")}
    with pytest.raises(UserError, match=r"&entry=&prefix=student\.; &entry=&prefix=teacher\."):
        fit(two, wanted())
    assert_equal(fit(two, wanted(), prefix="teacher.").state_dict, other)


def test_an_entry_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="no entry 'ema'; it has 'model', 'other'"):
        fit({"model": state(), "other": state()}, wanted(), entry="ema")


def test_another_number_of_classes_is_said_plainly() -> None:
    with pytest.raises(MisfitError) as error:
        fit({"": prefixed(state(), "module.")}, wanted(1000))
    assert error.value.classes == 3
    assert str(error.value) == (
        "7 of the architecture's 9 names fit without 'module.'; "
        "the checkpoint has 3 classes, the architecture 1000: `arguments: {num_classes: 3}`"
    )


def test_a_misfit_says_how_near_it_is() -> None:
    tensors = {name: item for name, item in state().items() if name != "body.0.bias"}
    tensors |= {"fc.weight": torch.ones(3, 9), **{f"fc.{name}": torch.ones(1) for name in "abcd"}}
    with pytest.raises(MisfitError) as error:
        fit({"": tensors}, wanted())
    assert error.value.classes is None
    assert str(error.value) == (
        "7 of the architecture's 9 names fit; missing: body.0.bias; unexpected: fc.a, fc.b, fc.c and 1 more; "
        "of another shape: fc.weight [3, 9] instead of [3, 4]"
    )


def test_an_explicit_prefix_is_obeyed() -> None:
    with pytest.raises(MisfitError, match=r"0 of the architecture's 9 names fit without 'net.'"):
        fit({"": state()}, wanted(), prefix="net.")


@pytest.mark.parametrize("found", [fit({"": state()}, wanted())])
def test_a_state_dict_that_fits_as_it_is_needs_no_note(found: Fitted) -> None:
    assert found.notes == []


@pytest.mark.parametrize(("inner", "outer"), [("", "teacher."), ("model.", "model.ema.")])
def test_a_copy_of_the_weights_beside_them_is_one_of_two_that_fit(inner: str, outer: str) -> None:
    other = {name: item + 1 for name, item in state().items()}
    two = {"": prefixed(state(), inner) | prefixed(other, outer)}
    with pytest.raises(UserError, match=rf"&entry=&prefix={inner}; &entry=&prefix={outer}"):
        fit(two, wanted())
    assert_equal(fit(two, wanted(), prefix=inner).state_dict, state())
    assert_equal(fit(two, wanted(), prefix=outer).state_dict, other)
