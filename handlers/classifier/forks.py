"""Lets models compute in a forked process, whatever was computed before the fork.

Threads do not follow a fork, and what they hold stays held. Two things would make the new process wait for ever:

* OpenMP, with which torch computes, keeps a team of threads for each thread that computes. The only thread of the new
  process waits for its team, which stayed in the other one. So it has a thread compute that began after the fork.
* The locks of libraries, if another thread was computing. So a fork waits until none is.
"""

import ctypes
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, ParamSpec, TypeVar

from classifier.errors import UnusableError

_LONGEST_S: Final = 30.0  # that a fork waits for what is being computed
_AGAIN_S: Final = 0.001  # after which it looks again: what ends does not tell, since for that it would need the lock

_Given = ParamSpec("_Given")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Owner = TypeVar("_Owner")


def compute(function: Callable[_Given, _Result], *args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
    """Call a function that computes with a library's threads. It may call this one again.

    Raises:
        UnusableError: this process was forked while something was computed that did not end.
    """
    require_threads()
    if threading.get_ident() != _process.forked:
        return _process.inside(function, *args, **kwargs)
    return _process.stand_in().submit(lambda: _process.inside(function, *args, **kwargs))()()


def require_threads() -> None:
    """Refuse to compute where that might never end.

    Raises:
        UnusableError: this process was forked while something was computed that did not end.
    """
    if _process.interrupted:
        raise UnusableError(
            f"this process was forked while another thread had been computing for {_LONGEST_S:.0f} s: "
            "fork before that, or start processes with the method spawn"
        )


class _Pool:
    """Threads of one process. Unlike an executor of Python's it has no lock that the handler of a signal may meet."""

    def __init__(self, number: int, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        for each in range(number):
            threading.Thread(target=_work, args=(self._calls,), name=f"{name}_{each}", daemon=True).start()
        weakref.finalize(self, _end, self._calls, number).atexit = False

    def submit(
        self, function: Callable[[], _Result], ended: Callable[[], None] = lambda: None
    ) -> Callable[[], Callable[[], _Result]]:
        """Have a thread call the function, and `ended` when the outcome is known.

        Returns:
            A function that waits, to be called once, and gives one that returns the result or raises the error.
        """
        outcome: SimpleQueue[Callable[[], _Result]] = SimpleQueue()

        def call() -> None:
            try:
                found = function()
            except BaseException as error:
                outcome.put(partial(_raise, error))
            else:
                outcome.put(lambda: found)
            ended()

        self._calls.put(call)
        return outcome.get


def _raise(error: BaseException) -> Any:
    raise error


def _work(calls: SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()
        del call  # what it refers to must not live until the next one


def _end(calls: SimpleQueue[Callable[[], None] | None], number: int) -> None:
    for _ in range(number):
        calls.put(None)


class _Process:
    """What is being computed in this process.

    Python calls the handler of a signal between any two steps of the main thread, and the handler may use a model or
    fork. So a thread may take the lock again that it has, and is noted by its number, not counted.
    """

    def __init__(self) -> None:
        self.forked: int | None = None  # the thread that the process began with, if it was forked
        self.interrupted = False  # by the fork, while it computed
        self._stand_in: _Pool | None = None
        self._begin(set())

    def _begin(self, computing: set[object]) -> None:
        self._computing = computing  # threads by their number, and calls that pools have
        self._forking: set[int] = set()  # threads
        self._idle = False  # when the last fork happened
        self._fork = threading.Condition(threading.RLock())

    def inside(self, function: Callable[_Given, _Result], *args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        """Call a function while no fork happens, but those of its own thread."""
        me = threading.get_ident()
        outermost = me not in self._computing
        try:
            if outermost:
                self._enter(me)
            return function(*args, **kwargs)
        finally:
            if outermost:
                self._computing.discard(me)

    def beside(self, pool: _Pool, function: Callable[[], _Result]) -> Callable[[], Callable[[], _Result]]:
        """Have a pool call a function, as `submit` does. Forks wait for it, also if its caller no longer does.

        It is noted without the lock, which the caller may have if it is the handler of a signal. So only the caller's
        own computation, of which this is a part, keeps a fork from happening in between.
        """
        call = object()
        self._computing.add(call)
        return pool.submit(function, partial(self._computing.discard, call))

    def _enter(self, me: int) -> None:
        with self._fork:
            self._fork.wait_for(lambda: self._forking <= {me})
            self._computing.add(me)

    def stand_in(self) -> "_Pool":
        """The thread that computes for the one that the process began with."""
        if self._stand_in is None:
            self._stand_in = _Pool(1, "compute")
        return self._stand_in

    def before_fork(self) -> None:
        """Wait until no other thread computes, and let none begin."""
        me = threading.get_ident()
        self._fork.acquire()
        self._forking.add(me)
        self._idle = False  # if an interrupt ends the wait, the fork happens all the same
        ends = time.monotonic() + _LONGEST_S
        while not (idle := self._computing <= {me}) and time.monotonic() < ends:
            self._fork.wait(_AGAIN_S)
        self._idle = idle

    def after_fork(self) -> None:
        """In the process that was forked, go on."""
        self._forking.discard(threading.get_ident())
        self._fork.notify_all()
        self._fork.release()

    def after_fork_in_child(self) -> None:
        """In the new process, begin anew."""
        self.forked = threading.get_ident()
        self.interrupted |= not self._idle
        self._stand_in = None
        self._begin(self._computing & {threading.get_ident()})


_process = _Process()
os.register_at_fork(
    before=_process.before_fork,
    after_in_parent=_process.after_fork,
    after_in_child=_process.after_fork_in_child,
)


def never_ends_in_forks(owner: _Owner) -> _Owner:
    """Have a forked process keep an object that owns threads.

    Its end waits for them, and they are in the other process. The object lives until the process ends, and is not
    destroyed then.
    """
    _owners.add(owner)
    return owner


_owners: weakref.WeakSet[Any] = weakref.WeakSet()


def _keep_owners() -> None:
    for owner in _owners:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))
    _owners.clear()


os.register_at_fork(after_in_child=_keep_owners)


class Threads:
    """A pool of threads; a forked process has threads of its own."""

    def __init__(self, number: int, name: str) -> None:
        self._number, self._name = number, name
        self._of: tuple[int, _Pool] | None = None  # the process, and its threads

    def map(self, function: Callable[[Any], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Call the function with each item, and wait for all, also if one of them raises."""
        of = self._of
        if of is None or of[0] != os.getpid():
            of = self._of = os.getpid(), _Pool(self._number, self._name)
        waits = [_process.beside(of[1], partial(function, item)) for item in items]
        outcomes = [wait() for wait in waits]
        return [outcome() for outcome in outcomes]


class OneAtATime:
    """A lock that the handler of a signal may take again, and that is free in a forked process."""

    def __init__(self) -> None:
        self._of: dict[int, threading.RLock] = {}  # by process

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have the lock."""
        with self._of.setdefault(os.getpid(), threading.RLock()):
            yield


def survives_forks(lock: threading.Lock) -> threading.Lock:
    """Make a lock of the whole program free in a forked process: the fork waits for it."""
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
