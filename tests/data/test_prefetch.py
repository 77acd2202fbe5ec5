"""Computed ahead of its turn: in order, once each, within its room, and without a thread that stays."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from fastpose.data.prefetch import Prefetch

SIZE = 100


pytestmark = pytest.mark.usefixtures("ahead_threads")


class Work:
    """Counts what is begun; every second result takes a little longer."""

    def __init__(self, sizes=None, wrong=()):
        self.begun, self.by, self.sizes, self.wrong = [], set(), sizes, wrong
        self.lock = threading.Lock()

    def __call__(self, item):
        with self.lock:
            self.begun.append(item)
            self.by.add(threading.current_thread().name)
        time.sleep(0.002 * (item % 2))
        if item in self.wrong:
            raise ValueError(f"no {item}")
        return item

    def size(self, item):
        return self.sizes[item] if self.sizes else SIZE


def settled(work, expected):
    """How many are begun when nothing more happens."""
    deadline = time.monotonic() + 10
    while len(work.begun) < expected and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    return len(work.begun)


@pytest.mark.parametrize("workers", [1, 3])
def test_in_order_and_once_each(workers):
    work = Work()
    with Prefetch(work, range(50), size=work.size, workers=workers) as results:
        assert list(results) == list(range(50))
    assert sorted(work.begun) == list(range(50))
    assert any(name.startswith("fastpose-ahead") for name in work.by)


def test_one_item_takes_no_thread_and_neither_do_results_without_size():
    for items, sizes in ((range(1), None), (range(30), [0] * 30)):
        work = Work(sizes)
        with Prefetch(work, items, size=work.size) as results:
            assert list(results) == list(items)
        assert work.by == {threading.current_thread().name}


@pytest.mark.parametrize(("room", "most", "expected"), [(10**9, 4, 4), (3 * SIZE, 20, 3), (SIZE - 1, 20, 0)])
def test_no_further_ahead_than_there_is_room(room, most, expected):
    work = Work()
    with Prefetch(work, range(30), size=work.size, room=room, most=most, workers=2) as results:
        for taken in range(1, 6):
            next(results)
            assert settled(work, taken + expected) == taken + expected
        assert list(results) == list(range(5, 30))


def test_larger_results_than_expected_are_at_most_one_a_thread():
    work = Work(sizes=[1] * 3 + [SIZE] * 20)
    with Prefetch(work, range(23), size=work.size, room=SIZE, workers=2) as results:
        assert next(results) == 0
        assert 3 < settled(work, 3 + 2) <= 3 + 2  # four where one thread was done before the other began
        assert list(results) == list(range(1, 23))


def test_an_error_comes_in_its_turn_and_the_next_can_be_taken():
    work = Work(wrong=(0, 7))
    found = []
    with Prefetch(work, range(12), size=work.size, workers=2) as results:
        while True:
            try:
                found.append(next(results))
            except ValueError as error:
                found.append(str(error))
            except StopIteration:
                break
    assert found == ["no 0", 1, 2, 3, 4, 5, 6, "no 7", 8, 9, 10, 11]


def test_closed_it_begins_nothing_more(ahead_threads):
    work = Work()
    with Prefetch(work, range(1000), size=work.size, most=500, workers=2) as results:
        next(results)
    assert not ahead_threads()
    assert len(work.begun) < 100
    begun = len(work.begun)
    time.sleep(0.05)
    assert len(work.begun) == begun


def test_closed_it_keeps_no_results():
    made = []

    def make(item):
        made.append(weakref.ref(result := np.zeros(9)))
        return result

    with Prefetch(make, range(6), workers=1) as results:
        next(results)
        deadline = time.monotonic() + 10
        while len(made) < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert [kept() for kept in made] == [None] * 6


def test_a_thread_of_its_own_may_close_it(ahead_threads):
    """An abandoned caller is cleared away in whatever thread the garbage collector happens to run."""
    closed = threading.Event()

    def close(item):
        if threading.current_thread().name.startswith("fastpose-ahead"):
            results.close()
            closed.set()
        return item

    results = Prefetch(close, range(9), size=lambda item: SIZE, workers=2)
    assert next(results) == 0
    assert closed.wait(10)
    deadline = time.monotonic() + 10
    while ahead_threads() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_script_may_end_in_the_middle_and_go_on_behind_the_end():
    script = """
import atexit, threading, time
from fastpose.data.prefetch import Prefetch

def work(item):
    time.sleep(0.01)
    return item

def rest():
    print(*results, [thread.name for thread in threading.enumerate()])

atexit.register(rest)
results = Prefetch(work, range(8), size=lambda item: 1, most=3, workers=2)
next(results), next(results)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "2 3 4 5 6 7 ['MainThread']\n", "")


def test_ctrl_c_while_it_takes_its_lock_leaves_no_thread_waiting():
    """The worst moment for it, wherever that is in Python: the lock is taken, and nobody knows yet."""
    code = """
import sys, time
from fastpose.data.prefetch import Prefetch

def interrupt(frame, event, _):
    if frame.f_code.co_name == "__enter__" and frame.f_globals["__name__"] == "threading":
        if event == "return":
            raise KeyboardInterrupt
        return interrupt

ahead = Prefetch(lambda item: time.sleep(0.01), range(1000), size=lambda result: 1)
for _ in range(5):
    next(ahead)
sys.settrace(interrupt)
try:
    next(ahead)
except KeyboardInterrupt:
    pass
sys.settrace(None)
ahead.close()
print("closed")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "closed\n", result.stderr
