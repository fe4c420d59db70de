import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from classifier.hold import at_rest, hold, wait_while_held

DEADLINE_S = 30


def until(reached: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(DEADLINE_S * 100):
        if reached():
            return
        pause.wait(0.01)
    raise TimeoutError


def test_without_a_hold_nobody_waits_and_nothing_is_left(tmp_path: Path) -> None:
    wait_while_held(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_says_that_it_rests_and_waits_until_the_hold_ends(tmp_path: Path) -> None:
    worker = threading.Thread(target=wait_while_held, args=(tmp_path,))
    with hold(tmp_path):
        assert at_rest(tmp_path) == set()
        worker.start()
        until(lambda: at_rest(tmp_path) == {os.getpid()})
        assert worker.is_alive()
    worker.join(DEADLINE_S)
    assert not worker.is_alive()
    assert list(tmp_path.iterdir()) == []


def test_two_cannot_hold_at_once(tmp_path: Path) -> None:
    with hold(tmp_path):
        with pytest.raises(BlockingIOError), hold(tmp_path):
            pass
        assert at_rest(tmp_path) == set()  # the first one's hold is untouched
    with hold(tmp_path):
        pass


def test_a_hold_whose_owner_died_holds_nobody_and_says_nothing_about_the_next(tmp_path: Path) -> None:
    with hold(tmp_path):
        (folder,) = tmp_path.iterdir()
    folder.mkdir()
    (folder / "lock").touch()
    (folder / "12345").touch()
    wait_while_held(tmp_path)
    assert at_rest(tmp_path) == {12345}
    with hold(tmp_path):
        assert at_rest(tmp_path) == set()


def test_a_worker_that_came_to_rest_before_a_hold_had_begun_is_seen_all_the_same(tmp_path: Path) -> None:
    worker = threading.Thread(target=wait_while_held, args=(tmp_path,))
    with hold(tmp_path):
        worker.start()
        until(lambda: at_rest(tmp_path) == {os.getpid()})
        (folder,) = tmp_path.iterdir()
        (folder / str(os.getpid())).unlink()  # as a hold does when it begins, after one whose owner died
        until(lambda: at_rest(tmp_path) == {os.getpid()})
    worker.join(DEADLINE_S)
    assert not worker.is_alive()


def test_a_worker_that_comes_to_rest_when_the_hold_ends_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = os.rmdir

    def too_late(path: str, **options: int) -> None:
        (tmp_path / "classifier-hold" / "12345").touch()
        remove(path, **options)

    with monkeypatch.context() as patch, hold(tmp_path):
        patch.setattr(os, "rmdir", too_late)
    wait_while_held(tmp_path)
    with hold(tmp_path):
        assert at_rest(tmp_path) == set()


def test_another_user_cannot_hold_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hold(tmp_path):
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        wait_while_held(tmp_path)
        assert at_rest(tmp_path) == set()
