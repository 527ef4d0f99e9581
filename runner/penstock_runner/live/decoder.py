"""The runner's end of the decoding child: bytes in, frames out, and when each frame's bytes had come."""

from __future__ import annotations

import bisect
import collections
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from .. import confine
from . import frames

MEMORY_BYTES = 2 << 30
STDERR_LIMIT = 500
# Bytes that came are remembered with their time for so many pieces.
REMEMBERED = 4096
PACKAGES = Path(__file__).resolve().parent.parent.parent


class DecoderFailed(Exception):
    """The child could not be started, or gave up."""


class Decoder:
    """One child, for one session. To be made by the thread that outlives it: the child dies with that thread."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        # The module below `live` alone would not find its package.
        environment = {"PYTHONPATH": str(PACKAGES), "PYTHONDONTWRITEBYTECODE": "1",
                       "PATH": os.environ.get("PATH", ""), "LANG": "C"}
        command = confine.wrap([sys.executable, "-m", f"{__package__}.decode_child", "--max-pixels", str(max_pixels)],
                               cpu_s=None, memory_bytes=MEMORY_BYTES, file_bytes=0)
        try:
            self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                           stderr=subprocess.PIPE, start_new_session=True, env=environment)
        except OSError as err:
            raise DecoderFailed(f"the decoder cannot be started: {err}") from err
        self._complaint = b""
        threading.Thread(target=self._listen, daemon=True).start()
        if self._child.stdout.readline() != b"ready\n":
            self.kill()
            raise DecoderFailed(f"the decoder does not start: {self.complaint()}")
        self._lock = threading.Lock()
        self._bytes = 0
        self._ends: collections.deque[int] = collections.deque(maxlen=REMEMBERED)
        self._times: collections.deque[float] = collections.deque(maxlen=REMEMBERED)

    def feed(self, piece: bytes) -> bool:
        """Hands bytes to the child, waiting while it has enough; False when it is no more."""
        with self._lock:
            self._bytes += len(piece)
            self._ends.append(self._bytes)
            self._times.append(time.monotonic())
        try:
            self._child.stdin.write(piece)
            self._child.stdin.flush()
        except (OSError, ValueError):
            return False
        return True

    def end_of_input(self) -> None:
        """The child decodes what it has, and ends."""
        try:
            self._child.stdin.close()
        except OSError:
            pass

    def next_frame(self) -> frames.Frame | None:
        """None when there are no more."""
        try:
            return frames.read(self._child.stdout, self._max_pixels)
        except (OSError, ValueError):
            return None

    def came_at(self, frame: frames.Frame) -> float:
        """When the last byte of a frame came, by the monotonic clock; the best that is still known of it."""
        with self._lock:
            at = bisect.bisect_left(self._ends, frame.position)
            return self._times[min(at, len(self._times) - 1)] if self._times else time.monotonic()

    def failed(self) -> bool:
        """Whether it gave up, once its frames have ended."""
        return self._child.wait() != 0

    def complaint(self) -> str:
        """What it said last."""
        lines = self._complaint.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "no word from it"

    def kill(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            try:
                pipe.close()
            except OSError:
                pass

    def _listen(self) -> None:
        """Keeps the end of what it says."""
        with self._child.stderr as stderr:
            while said := stderr.read1(4096):
                self._complaint = (self._complaint + said)[-STDERR_LIMIT:]
