"""Photos read by a few threads ahead of their turn: in order, and no more of them at once than memory has room for."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

from .images import MAX_HELD_BYTES

__all__ = ["Prefetch", "local_processes", "processors"]

Item = TypeVar("Item")
Result = TypeVar("Result")

# Photos ahead of their turn: the next batch of a GPU is read while it computes one.
_MOST = 64
_ROOM = MAX_HELD_BYTES // 2
# Few, as each may come upon a far larger photo than those before, and as on a CPU they share it with the network.
_THREADS = 4
_NAME = "fastpose-ahead"


class _Call(Generic[Item, Result]):
    """One item, and later what became of it."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.done = False
        self.bytes = 0
        self.result: Result
        self.error: BaseException | None = None

    def run(self, function: Callable[[Item], Result], size: Callable[[Result], int]) -> None:
        try:
            self.result = function(self.item)
            self.bytes = size(self.result)
        except BaseException as error:  # raised where it is this item's turn
            self.error = error


class Prefetch(Iterator[Result], Generic[Item, Result]):
    """`function` of the items, in order; threads compute it ahead of its turn.

    The caller's thread computes what nobody has begun when its turn comes. That is always so until the size of a result
    is known: a single item takes no thread, and neither do items that all have no size.

    What the function raises is raised where it is the item's turn; the next items can be taken nevertheless.

    Args:
        function: Called once with each item.
        items: Drawn `most` ahead, in the caller's thread.
        size: Bytes that a result keeps in memory.
        room: Bytes that the results ahead of their turn may take. Those that are not there yet count as much as the
            largest so far; if they turn out larger, there may be one a thread beyond it.
        most: Items ahead of their turn.
        workers: Threads; by default one for each processor in reach, at most four.
        pool: Where they come from; by default threads of its own, which end with `close`.
        largest: Bytes of the largest result so far, where that is known.
    """

    def __init__(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        size: Callable[[Any], int] = lambda result: result.nbytes,
        room: int = _ROOM,
        most: int = _MOST,
        workers: int | None = None,
        pool: ThreadPoolExecutor | None = None,
        largest: int = 0,
    ) -> None:
        self._function, self._items, self._size = function, iter(items), size
        self._room, self._most, self._workers = room, most, workers or min(_THREADS, processors())
        self._pool, self._owns_pool = pool or ThreadPoolExecutor(self._workers, _NAME), pool is None
        self._closed = False
        self._calls: deque[_Call[Item, Result]] = deque()  # not taken yet
        # Guards what follows. It is taken itself and not by its condition, whose __enter__ is Python: Ctrl-C could end
        # that with the lock taken, and the threads would wait for it for ever.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._todo: deque[_Call[Item, Result]] = deque()  # of these, not begun yet
        self._active = 0  # threads that compute, or are about to look for something
        self._held = 0  # bytes of results that wait for their turn
        self._largest = largest

    def __next__(self) -> Result:
        self._begin()
        if not self._calls:
            raise StopIteration
        call = self._calls.popleft()
        with self._lock:
            mine = bool(self._todo) and self._todo[0] is call
            if mine:
                self._todo.popleft()
            else:
                self._changed.wait_for(lambda: call.done)
                self._held -= call.bytes
        if mine:
            call.run(self._function, self._size)
            with self._lock:
                self._largest = max(self._largest, call.bytes)
        self._begin()
        if call.error is not None:
            raise call.error
        return call.result

    def __enter__(self) -> Prefetch[Item, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Begin nothing more, end the threads, and let go of what was not taken."""
        # Abandoned callers are cleared away at any moment, in any thread: this takes no lock, and no thread waits for
        # itself.
        self._closed = True
        if self._owns_pool:
            self._pool.shutdown(wait=not threading.current_thread().name.startswith(_NAME))
        self._calls.clear()

    def _begin(self) -> None:
        """Have as much begun as there is room for."""
        if self._closed:
            return
        while len(self._calls) < self._most:
            try:
                call: _Call[Item, Result] = _Call(next(self._items))
            except StopIteration:
                break
            self._calls.append(call)
            with self._lock:
                self._todo.append(call)
        with self._lock:
            while self._active < min(self._workers, len(self._todo)) and self._has_room(self._active + 1):
                try:
                    self._pool.submit(self._work)
                except RuntimeError:  # no thread can be had, as when the interpreter ends
                    break
                self._active += 1

    def _has_room(self, active: int) -> bool:
        return self._largest > 0 and self._held + active * self._largest <= self._room

    def _work(self) -> None:
        while True:
            with self._lock:
                if self._closed or not self._todo or not self._has_room(self._active):
                    self._active -= 1
                    return
                call = self._todo.popleft()
            call.run(self._function, self._size)
            with self._lock:
                self._held += call.bytes
                self._largest = max(self._largest, call.bytes)
                call.done = True
                self._changed.notify_all()


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_processes() -> int:
    """Number of processes of ``torchrun`` on this machine, which share its processors and memory."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
