from contextlib import closing
from pathlib import Path

from classifier.slots import reserve


def test_numbers_are_taken_in_order_and_given_back_when_their_holder_ends(tmp_path: Path) -> None:
    first, first_lock = reserve(tmp_path, "requests")
    second, second_lock = reserve(tmp_path, "requests")
    with closing(second_lock):
        assert (first, second) == (0, 1)
        first_lock.close()
        again, lock = reserve(tmp_path, "requests")
        with closing(lock):
            assert again == 0


def test_each_name_has_numbers_of_its_own(tmp_path: Path) -> None:
    one, lock = reserve(tmp_path, "requests")
    with closing(lock):
        other, other_lock = reserve(tmp_path, "metrics")
        with closing(other_lock):
            assert (one, other) == (0, 0)
