"""A program that forks with loaded models, in all ways; it ends with 0 if every process gave the right answers.

Arguments: an archive; a picture; the probability of each class for it, as JSON.
"""

import gc
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from classifier import ImageClassifier, load

ARCHIVE, PICTURE = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
EXPECTED: dict[str, float] = json.loads(sys.argv[3])
FORKS = 6  # while threads compute


def check(model: ImageClassifier) -> None:
    """Eight pictures, which are decoded on threads and computed on threads, and one alone."""
    for found in (*model([PICTURE] * 8, top_k=10), model(PICTURE, top_k=10)):
        assert isinstance(found, list), found.__cause__
        assert {item.class_id for item in found} == EXPECTED.keys()
        for item in found:
            assert abs(item.probability - EXPECTED[item.class_id]) < 1e-5, (found, EXPECTED)


def fork(child: Callable[[], None]) -> None:
    """Call the function in a forked process, which must come to its end as a program does."""
    process = os.fork()
    if process == 0:
        signal.alarm(60)  # a child that hangs is ended
        child()
        sys.exit()
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status


def in_pool(_: int) -> None:
    """Check the model that the process of the pool was forked with."""
    check(MODELS[0])


def child() -> None:
    """Check all models, a new one, and a fork of this fork; then end the models, whose threads are elsewhere."""
    for model in MODELS:
        check(model)
    with load(ARCHIVE, threads=2) as new:
        check(new)
    fork(lambda: check(MODELS[0]))
    MODELS[0].close()
    MODELS.clear()
    gc.collect()


def folders() -> int:
    """How many archives lie unpacked."""
    return len(list(Path(tempfile.gettempdir()).glob("archive-*")))


def fork_while_threads_compute() -> None:
    """Fork at any moment of what threads compute, and none of them may get a wrong answer."""
    ended, right = threading.Event(), []

    def ask() -> None:
        while not ended.is_set():
            check(MODELS[0])
        right.append(True)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(FORKS):
        fork(child)
    ended.set()
    for thread in threads:
        thread.join()
    assert len(right) == len(threads)


MODELS: list[ImageClassifier] = []


def main() -> None:
    """Fork before the first call, after it, while threads compute, and as a pool does."""
    assert (torch.ones(800, 800) @ torch.ones(800, 800)).mean() == 800  # as a program does that has used torch before
    MODELS.append(load(ARCHIVE, threads=2))
    fork(child)
    check(MODELS[0])
    MODELS.append(load(ARCHIVE, threads=2))  # never called in this process
    fork(child)
    fork_while_threads_compute()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map_async(in_pool, range(8)).get(60)
    assert folders() == 2  # no fork removed what this process uses
    check(MODELS[0])
    MODELS[0].close()
    MODELS[0].close()
    assert folders() == 1
    check(MODELS[1])


if __name__ == "__main__":
    main()
