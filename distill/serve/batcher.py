"""Requests of many clients in the batches of one model thread."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

LARGEST = 64
"""Maximum number of records of a batch: what a request waits for at most beside its own."""


class QueueFullError(Exception):
    """More records are waiting than allowed."""


@dataclass(frozen=True)
class _Waiting:
    record: Any
    everything: bool
    future: "Future[Any]"


class Batcher:
    """Answers records in one thread, as many at once as are waiting.

    A record whose client has gone (its future is canceled) is left out before it is computed; one
    that cannot be answered leaves the others as they are.

    Args:
        answer: ``answer(records, everything=...)``: an answer or a :class:`RecordError` for each.
        capacity: maximum number of records that wait.

    Attributes:
        batches: number of batches so far.
        answered: number of records so far.
    """

    def __init__(self, answer: Callable[..., list[Any]], capacity: int):
        self._answer, self.capacity = answer, capacity
        self._queue: queue.Queue[_Waiting | None] = queue.Queue()
        self._waiting, self._lock = 0, threading.Lock()
        self.batches = self.answered = 0
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of records that are waiting or being computed."""
        return self._waiting

    def submit(self, records: Sequence[Any], everything: bool = False) -> list["Future[Any]"]:
        """Return a future of each record's answer, or of its :class:`RecordError`.

        Raises:
            QueueFullError: if there is no room for all of them.
        """
        with self._lock:
            if self._waiting + len(records) > self.capacity:
                raise QueueFullError
            self._waiting += len(records)
        futures: list[Future[Any]] = [Future() for _ in records]
        for record, future in zip(records, futures, strict=True):
            self._queue.put(_Waiting(record, everything, future))
        return futures

    def close(self) -> None:
        """End the thread when it has answered what is waiting."""
        self._queue.put(None)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ends = [first], False
            while len(batch) < LARGEST and not ends:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                ends = following is None
                if following is not None:
                    batch.append(following)
            running = [one for one in batch if one.future.set_running_or_notify_cancel()]
            for everything in (False, True):
                self._compute([one for one in running if one.everything is everything], everything)
            with self._lock:
                self._waiting -= len(batch)
            if ends:
                return

    def _compute(self, batch: Sequence[_Waiting], everything: bool) -> None:
        if not batch:
            return
        try:
            answers = self._answer([one.record for one in batch], everything=everything)
        except Exception as error:  # the thread lives on; each request is told
            for one in batch:
                one.future.set_exception(error)
            return
        self.batches, self.answered = self.batches + 1, self.answered + len(batch)
        for one, answer in zip(batch, answers, strict=True):
            one.future.set_result(answer)
