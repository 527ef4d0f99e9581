"""How long a job may take, and whether anybody still waits for it: steps look at it between their parts, and a
network that is running is stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .errors import InferenceFailed

if TYPE_CHECKING:
    import onnxruntime


class Deadline:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._cancelled = False
        self._running: onnxruntime.RunOptions | None = None

    def remaining_s(self) -> float:
        """What is left; an error if nothing is, or if nobody waits any more."""
        if self._cancelled:
            raise InferenceFailed("the caller hung up")
        left = self._end - time.monotonic()
        if left <= 0:
            raise InferenceFailed(f"the job took longer than {self._seconds:g} s")
        return left

    def over(self) -> bool:
        """The same as a question."""
        return self._cancelled or time.monotonic() >= self._end

    def cancel(self) -> None:
        """The caller hung up: what runs is stopped, what comes next does not begin. From any thread."""
        with self._lock:
            self._cancelled = True
            if self._running is not None:
                self._running.terminate = True

    @contextmanager
    def run_options(self) -> Iterator[onnxruntime.RunOptions]:
        """Options for one run of a network, which ends with an error at the deadline."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        timer = threading.Timer(self.remaining_s(), setattr, (options, "terminate", True))
        timer.daemon = True
        with self._lock:
            options.terminate = self._cancelled
            self._running = options
        timer.start()
        try:
            yield options
        except Exception:
            self.remaining_s()  # if that was it, say so
            raise
        finally:
            timer.cancel()
            with self._lock:
                self._running = None
