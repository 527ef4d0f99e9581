"""How many jobs at once: a fixed number, and the next caller is told so instead of queued.

The worker in front does the queueing; a queue here would hide from it that this runner is full.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from .errors import Unavailable


class Capacity:
    def __init__(self, slots: int) -> None:
        self._slots = threading.BoundedSemaphore(slots)

    def slot(self) -> Slot:
        """One job's place, for a `with` statement."""
        return Slot(self._slots)


class Slot:
    """Given back when its block ends, or when what it was handed to ends."""

    def __init__(self, slots: threading.BoundedSemaphore) -> None:
        self._slots = slots
        self._held = False

    def __enter__(self) -> Slot:
        if not self._slots.acquire(blocking=False):
            raise Unavailable("runner is busy")
        self._held = True
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        if self._held:
            self._held = False
            self._slots.release()

    def held_by(self, pieces: Iterator[dict], cancel: Callable[[], None]) -> Pieces:
        """Hands the place to an answer in pieces."""
        self._held = False
        handed = Slot(self._slots)
        handed._held = True
        return Pieces(pieces, handed, cancel)


class Pieces:
    """An answer in pieces with its place; `close` at its end, whatever the end was."""

    def __init__(self, pieces: Iterator[dict], slot: Slot, cancel: Callable[[], None]) -> None:
        self._pieces = pieces
        self._slot = slot
        # Nobody wants more: what makes the pieces may stop. From any thread.
        self.cancel = cancel

    def __iter__(self) -> Iterator[dict]:
        return self._pieces

    def close(self) -> None:
        try:
            close = getattr(self._pieces, "close", None)
            if close:
                close()
        finally:
            self._slot._release()
