"""Loaded models answer in forks of their process, whatever was computed before, and leave it its files."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from classifier import ImageClassifier, forks, load
from classifier.errors import UnusableError
from classifier.forks import OneAtATime, Threads, compute, survives_forks
from classifier.problems import Internal
from msgspec import structs

from scripts.archives.loaded import loaded
from tests.unit.handlers.classifier.test_api import every_runtime

FORKING = Path(__file__).with_name("forking.py")


@pytest.mark.slow
@every_runtime
def test_forks_answer_as_their_process_does_and_leave_it_its_files(
    runtime: str, tiny_archive: Callable[..., Path], tmp_path: Path, cat: bytes
) -> None:
    archive, picture = tiny_archive(runtime), tmp_path / "cat.png"
    picture.write_bytes(cat)
    right = {item.class_id: item.probability for item in load(archive)(cat, top_k=10)}
    command = [sys.executable, str(FORKING), str(archive), str(picture), json.dumps(right)]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list(tmp_path.glob("archive-*")) == []


def in_fork(child: Callable[[], object]) -> int:
    """The exit code of a fork of this process: 0 if the function ends with something true."""
    process = os.fork()
    if process == 0:
        signal.alarm(60)
        code = 2
        try:
            code = 0 if child() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_a_fork_waits_for_what_is_being_computed() -> None:
    begun, done = threading.Event(), []

    def long() -> None:
        begun.set()
        compute(lambda: done.append(True))  # within a computation another one may begin, though a fork is waiting
        threading.Event().wait(0.5)
        done.append(True)

    thread = threading.Thread(target=compute, args=(long,))
    thread.start()
    assert begun.wait(30)
    assert in_fork(lambda: done == [True, True] and compute(len, "abc") == 3) == 0
    thread.join()
    assert compute(len, "abc") == 3


def test_a_fork_that_interrupted_a_computation_says_so_instead_of_waiting(
    tiny_folder: Path, cat: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "_LONGEST_S", 0.05)
    model, begun, end = load(tiny_folder), threading.Event(), threading.Event()

    def endless() -> bool:
        begun.set()
        return end.wait(60)

    thread = threading.Thread(target=compute, args=(endless,))
    thread.start()
    assert begun.wait(30)

    def refused() -> bool:
        with pytest.raises(UnusableError, match="forked while another thread had been computing"):
            model(cat)
        (problem,) = model.core.classify([cat], [1])
        return isinstance(problem, Internal) and "forked while" in str(problem.__cause__)

    assert in_fork(refused) == 0
    end.set()
    thread.join()
    assert len(model(cat)) == 5
    assert in_fork(lambda: len(model(cat)) == 5) == 0


_BETWEEN_S = 0.0005  # two calls of the handler


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Has a function called again and again by the handler of a signal, between any two steps of the main thread."""
    before = signal.getsignal(signal.SIGALRM)

    def again_and_again(function: Callable[[], object]) -> None:
        def handler(*_: object) -> None:
            function()
            signal.setitimer(signal.ITIMER_REAL, _BETWEEN_S)  # from now, so that a slow machine gets on as well

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, _BETWEEN_S)

    yield again_and_again
    signal.signal(signal.SIGALRM, signal.SIG_IGN)  # a handler that still runs would begin anew
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def _calls() -> bool:
    """Many calls in each way, during which handlers of signals do the same."""
    pool = Threads(2, "own")
    return all(compute(len, "abc") == 3 and list(pool.map(len, ["a", "bc"])) == [1, 2] for _ in range(500))


@pytest.mark.timeout(60)
def test_the_handler_of_a_signal_may_compute_while_its_thread_begins_or_ends_to(
    alarm: Callable[[Callable[[], object]], None],
) -> None:
    handled, pool = [], Threads(2, "handler's")
    alarm(lambda: handled.append((compute(len, "ab"), *pool.map(len, ["a"]))))
    assert _calls()
    assert set(handled) == {(2, 1)}


@pytest.mark.timeout(60)
def test_the_handler_of_a_signal_may_compute_in_a_fork(alarm: Callable[[Callable[[], object]], None]) -> None:
    def child() -> bool:
        handled: list[int] = []
        alarm(lambda: handled.append(compute(len, "ab")))
        return _calls() and set(handled) == {2}

    process = os.fork()
    if process == 0:
        code = 2
        try:
            code = 0 if child() else 1
        finally:
            os._exit(code)
    for _ in range(600):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            break
        threading.Event().wait(0.05)
    else:
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_forks_of_several_threads_each_wait_for_what_is_being_computed() -> None:
    """None of them is left waiting when another one has forked."""
    end, codes = threading.Event(), list[int]()

    def busy() -> None:
        while not end.is_set():
            compute(threading.Event().wait, 0.002)

    def fork() -> None:
        codes.append(in_fork(lambda: compute(len, "abc") == 3))

    computing, forking = ([threading.Thread(target=each) for _ in range(4)] for each in (busy, fork))
    for thread in (*computing, *forking):
        thread.start()
    for thread in forking:
        thread.join()
    end.set()
    for thread in computing:
        thread.join()
    assert codes == [0] * 4


def test_an_interrupt_ends_a_computation_and_the_next_ones_and_forks_go_on() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute(interrupt)
    assert in_fork(lambda: compute(len, "abc") == 3) == 0


def test_a_pools_threads_end_with_it() -> None:
    pool = Threads(3, "ending")
    assert pool.map(len, ["abc"]) == [3]
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("ending")]
    assert len(threads) == 3
    del pool
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_an_error_of_a_pools_thread_arrives() -> None:
    with pytest.raises(TypeError):
        Threads(2, "own").map(len, ["a", 1])


def test_a_pool_has_ended_all_of_a_call_when_one_of_it_fails() -> None:
    ended: list[int] = []

    def work(number: int) -> None:
        if number == 0:
            raise ValueError("no")
        threading.Event().wait(0.3)
        ended.append(number)

    with pytest.raises(ValueError, match="no"):
        Threads(3, "own").map(work, range(3))
    assert sorted(ended) == [1, 2]


def test_a_fork_waits_for_the_threads_of_a_pool() -> None:
    pool, begun, ended = Threads(1, "own"), threading.Event(), list[int]()

    def work(number: int) -> None:
        begun.set()
        threading.Event().wait(0.5)
        ended.append(number)

    caller = threading.Thread(target=lambda: pool.map(work, [1]))
    caller.start()
    assert begun.wait(30)
    assert in_fork(lambda: ended == [1]) == 0
    caller.join()


def test_a_pools_thread_begins_though_a_fork_waits_for_its_caller() -> None:
    pool, begun, forking = Threads(1, "own"), threading.Event(), threading.Event()

    def long() -> None:
        begun.set()
        forking.wait(30)
        threading.Event().wait(0.3)  # in which the fork begins to wait
        assert pool.map(len, ["abc"]) == [3]

    thread = threading.Thread(target=compute, args=(long,))
    thread.start()
    assert begun.wait(30)
    forking.set()
    assert in_fork(lambda: compute(len, "abc") == 3) == 0
    thread.join()


def test_turns_are_taken_by_threads_and_not_by_what_a_thread_does_itself() -> None:
    turns, inside, most = OneAtATime(), list[int](), list[int]()

    def take(number: int) -> None:
        with turns.taken(), turns.taken():
            inside.append(number)
            most.append(len(inside))
            threading.Event().wait(0.02)
            inside.remove(number)

    Threads(4, "own").map(take, range(8))
    assert most == [1] * 8


def test_a_turn_is_free_in_a_fork_of_the_one_who_has_it() -> None:
    turns = OneAtATime()

    def taken_by_another() -> bool:
        thread = threading.Thread(target=turns.taken().__enter__, daemon=True)
        thread.start()
        thread.join(10)
        return not thread.is_alive()

    with turns.taken():
        assert in_fork(taken_by_another) == 0


def test_a_model_on_a_gpu_says_that_a_fork_cannot_use_it(tiny_folder: Path, cat: bytes) -> None:
    core = load(tiny_folder).core
    model = ImageClassifier(structs.replace(core, source=structs.replace(core.source, device="cuda:0")))
    assert len(model(cat)) == 5  # in its own process

    def refused() -> bool:
        with pytest.raises(UnusableError, match="a model on cuda:0 cannot be used in a fork"):
            model(cat)
        return True

    assert in_fork(refused) == 0


def test_an_error_in_a_computation_arrives_and_ends_it() -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            compute(divmod, 1, 0)

    def arrives() -> bool:
        with pytest.raises(ZeroDivisionError):
            compute(divmod, 1, 0)
        return compute(divmod, 7, 2) == (3, 1)

    assert in_fork(arrives) == 0


def test_a_pool_of_threads_is_each_processs_own() -> None:
    pool = Threads(2, "own")
    assert pool.map(len, ["a", "bc"]) == [1, 2]
    assert in_fork(lambda: pool.map(len, ["a", "bc"]) == [1, 2]) == 0
    assert pool.map(len, ["abc"]) == [3]


def test_a_lock_that_another_thread_holds_is_free_in_a_fork() -> None:
    lock, held, end = survives_forks(threading.Lock()), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            end.wait(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    assert in_fork(lambda: lock.acquire(timeout=10)) == 0
    thread.join()
    assert not lock.locked()


def test_a_fork_that_ends_within_the_use_of_an_archive_leaves_the_files(
    tiny_archive: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cat: bytes
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    try:
        with loaded(tiny_archive()) as classifier:
            expected = classifier.classify([cat], [10])
            process = os.fork()
            if process == 0:
                signal.alarm(60)
                raise SystemExit  # leaves the block, as a program that ends does
            assert os.waitpid(process, 0)[1] == 0
            assert len(list(tmp_path.iterdir())) == 1
            assert classifier.classify([cat], [10]) == expected
    except SystemExit:
        os._exit(len(list(tmp_path.iterdir())) - 1)  # the fork's: 0 if the files are there
    assert list(tmp_path.iterdir()) == []
