"""How many jobs at once: a fixed number, and the next caller is told so instead of queued.

The worker in front does the queueing; a queue here would hide from it that this runner is full.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import Unavailable


class Capacity:
    def __init__(self, slots: int) -> None:
        self._slots = threading.BoundedSemaphore(slots)

    @contextmanager
    def slot(self) -> Iterator[None]:
        if not self._slots.acquire(blocking=False):
            raise Unavailable("runner is busy")
        try:
            yield
        finally:
            self._slots.release()
