"""Threads that work on feeds together: each reads and counts batches until there are no more.

Not ``kernels.threads``: these threads live as long as the files take, and whoever calls a kernel meanwhile must not
wait for them. An error, or Ctrl-C, in any of them ends all of them after the batch they are at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from catembed.vocabulary.fitting.sources import Batch, Feed

__all__ = ["work"]


class _Running:
    """A feed that has been started; whoever has the lock may take its next batch."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self.batches, self.lock, self.users = batches, threading.Lock(), 0


class _Feeds:
    """The feeds that wait, and those that run."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._waiting = iter(feeds)
        self._running: list[_Running] = []
        self._lock = threading.Lock()

    def batches(self) -> Iterator[Batch]:
        """Batches for one thread: of a feed of its own, or of another's once none waits."""
        while (running := self._pick()) is not None:
            while (batch := self._next(running)) is not None:
                yield batch
            with self._lock:
                running.users -= 1
                if running in self._running:
                    self._running.remove(running)

    def _pick(self) -> _Running | None:
        with self._lock:
            feed = next(self._waiting, None)
            if feed is not None:
                self._running.append(_Running(feed.start()))
                running = self._running[-1]
            elif self._running:
                running = min(self._running, key=lambda one: one.users)
            else:
                return None
            running.users += 1
            return running

    @staticmethod
    def _next(running: _Running) -> Batch | None:
        with running.lock:
            return next(running.batches, None)


def work(feeds: Sequence[Feed], do: Callable[[Batch, int], None], threads: int) -> None:
    """Call ``do(batch, thread)`` with every batch; the caller's own thread is number 0."""
    shared, stop = _Feeds(feeds), threading.Event()
    errors: list[BaseException] = []
    # Waited for in place of the threads: a join that Ctrl-C interrupts takes the thread for ended (before Python 3.13).
    ended = [threading.Event() for _ in range(threads)]

    def run(thread: int) -> None:
        try:
            for batch in shared.batches():
                if stop.is_set():
                    return
                do(batch, thread)
        except BaseException as error:
            errors.append(error)
            stop.set()
        finally:
            ended[thread].set()

    others = [
        threading.Thread(target=run, args=(number,), name=f"catembed-fit-{number}") for number in range(1, threads)
    ]
    try:
        for other in others:
            other.start()
        run(0)
        for each in ended:
            each.wait()
    except BaseException as error:
        errors.insert(0, error)
        stop.set()
    for other, its_end in zip(others, ended[1:], strict=True):
        if other.ident is not None:
            its_end.wait()
            other.join()
    if errors:
        raise errors[0]
