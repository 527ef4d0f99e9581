"""How long a job may take: steps look at it between their parts, and a network that is running is stopped."""

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

    def remaining_s(self) -> float:
        """What is left; an error if nothing is."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise InferenceFailed(f"the job took longer than {self._seconds:g} s")
        return left

    @contextmanager
    def run_options(self) -> Iterator[onnxruntime.RunOptions]:
        """Options for one run of a network, which ends with an error at the deadline."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        timer = threading.Timer(self.remaining_s(), setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            yield options
        except Exception:
            self.remaining_s()  # if that was it, say so
            raise
        finally:
            timer.cancel()
