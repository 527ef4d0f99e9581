"""What is measured of a session. Pure: every time is an argument, in seconds of one clock."""

from __future__ import annotations

import collections
import math

# The newest frames that rates and percentiles are of.
WINDOW = 300


class Numbers:
    def __init__(self, begun_s: float) -> None:
        self._prompt_s: float | None = begun_s
        self._first_input_s: float | None = None
        self.frames_in = self.frames_out = self.frames_dropped = 0
        self._inputs: collections.deque[float] = collections.deque(maxlen=WINDOW)
        self._outputs: collections.deque[float] = collections.deque(maxlen=WINDOW)
        self._latencies: collections.deque[float] = collections.deque(maxlen=WINDOW)
        self._largest_latency_s = 0.0
        self._jitter_s = 0.0
        self._last: tuple[float, float] | None = None
        self.prompt_to_first_frame_s: float | None = None

    def input_began(self, now_s: float) -> None:
        if self._first_input_s is None:
            self._first_input_s = now_s

    def prompted(self, now_s: float) -> None:
        """New parameters; the next frame out that has them answers it."""
        self._prompt_s = now_s

    def came_in(self, now_s: float) -> None:
        self.frames_in += 1
        self._inputs.append(now_s)

    def dropped(self) -> None:
        self.frames_dropped += 1

    def went_out(self, now_s: float, came_s: float, time_s: float, prompted: bool) -> None:
        """A frame whose bytes came at `came_s` and whose place in the film is `time_s`, painted with the newest
        parameters if `prompted`."""
        self.frames_out += 1
        self._outputs.append(now_s)
        latency = max(now_s - came_s, 0)
        self._latencies.append(latency)
        self._largest_latency_s = max(self._largest_latency_s, latency)
        if self._last is not None:
            # RFC 3550, section 6.4.1.
            off = abs((now_s - self._last[0]) - (time_s - self._last[1]))
            self._jitter_s += (off - self._jitter_s) / 16
        self._last = (now_s, time_s)
        if prompted and self._prompt_s is not None:
            # Nothing can be painted before something came.
            self.prompt_to_first_frame_s = now_s - max(self._prompt_s, self._first_input_s or self._prompt_s)
            self._prompt_s = None

    def input_fps(self, now_s: float) -> float:
        return _rate(self._inputs, now_s)

    def output_fps(self, now_s: float) -> float:
        return _rate(self._outputs, now_s)

    def shown(self, now_s: float) -> dict:
        """As events and the statistics route have it."""
        return {
            "prompt_to_first_frame_ms": _ms(self.prompt_to_first_frame_s),
            "added_latency_ms": {"p50": _ms(_percentile(self._latencies, 50)),
                                 "p95": _ms(_percentile(self._latencies, 95)),
                                 "max": _ms(self._largest_latency_s)},
            "output_fps": round(self.output_fps(now_s), 2),
            "input_fps": round(self.input_fps(now_s), 2),
            "jitter_ms": _ms(self._jitter_s),
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            "frames_dropped": self.frames_dropped,
        }


def _rate(times: collections.deque[float], now_s: float) -> float:
    """Frames a second over the window; silence since its last one counts."""
    if len(times) < 2:
        return 0.0
    span = max(times[-1], now_s - 1) - times[0]
    return (len(times) - 1) / span if span > 0 else 0.0


def _percentile(values: collections.deque[float], percent: int) -> float | None:
    """The smallest that so many of them do not exceed."""
    if not values:
        return None
    return sorted(values)[max(math.ceil(len(values) * percent / 100) - 1, 0)]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
