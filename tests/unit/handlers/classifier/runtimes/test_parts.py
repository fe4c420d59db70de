"""A batch is divided among threads, and every picture gets its own row."""

import threading

import numpy as np
import pytest
from classifier.runtimes.parts import in_parts
from numpy.typing import NDArray


class Recording:
    """A forward function that gives each picture's first value, and takes down its batches and threads."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        first = pixels[:, 0, 0, 0]
        self.batches.append(first.tolist())
        self.threads.add(threading.get_ident())
        return first[:, None].astype(np.float32)


def pictures(count: int) -> NDArray[np.uint8]:
    return np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", range(1, 12))
def test_each_picture_gets_its_own_row(count: int, threads: int) -> None:
    rows = in_parts(threads, Recording(), Recording())(pictures(count))
    assert rows.tolist() == [[index] for index in range(count)]


@pytest.mark.parametrize(
    ("count", "parts", "rest"),
    [
        (1, [], [[0]]),
        (2, [[0], [1]], []),
        (3, [[0], [1]], [[2]]),
        (8, [[0, 1, 2, 3], [4, 5, 6, 7]], []),
        (9, [[0, 1, 2, 3], [4, 5, 6, 7]], [[8]]),
    ],
)
def test_threads_have_as_many_pictures_as_each_other_and_those_that_are_left_have_all_threads(
    count: int, parts: list[list[int]], rest: list[list[int]]
) -> None:
    alone, together = Recording(), Recording()
    in_parts(2, alone, together)(pictures(count))
    assert sorted(alone.batches) == parts
    assert together.batches == rest
    assert threading.get_ident() not in alone.threads
    assert together.threads <= {threading.get_ident()}


def test_parts_are_computed_at_the_same_time() -> None:
    all_there = threading.Barrier(3)

    def alone(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        all_there.wait(10)  # broken unless the three threads come
        return np.zeros((len(pixels), 1), np.float32)

    assert in_parts(3, alone, alone)(pictures(6)).shape == (6, 1)


def test_one_thread_has_the_whole_batch() -> None:
    alone, together = Recording(), Recording()
    in_parts(1, alone, together)(pictures(5))
    assert (alone.batches, together.batches) == ([], [[0, 1, 2, 3, 4]])


def test_a_part_that_fails_fails_the_batch_and_the_next_one_is_computed() -> None:
    def alone(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        if pixels[0, 0, 0, 0] == 0:
            raise RuntimeError("no")
        return np.ones((len(pixels), 1), np.float32)

    forward = in_parts(2, alone, alone)
    with pytest.raises(RuntimeError, match="no"):
        forward(pictures(4))
    assert forward(pictures(5)[1:]).tolist() == [[1]] * 4
