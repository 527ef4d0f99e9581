"""Painted frames to H.264 in MPEG-TS, cut into segments that each begin with a keyframe and the stream's tables."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

CLOCK = 90_000
# Segments are at least so long, by the frames' own clock.
SEGMENT_S = 1.0
# A jump of the input's clock by more than this, or backwards, is bridged.
LARGEST_STEP_S = 5.0
BRIDGE_S = 1 / 30


class _Output:
    """What the muxer writes, until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


class Times:
    """The output's clock: the input's, but always rising and without its jumps."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._shift = 0.0

    def next(self, time_s: float) -> float:
        moved = time_s + self._shift
        if self._last is not None and not 0 < moved - self._last <= LARGEST_STEP_S:
            moved = self._last + BRIDGE_S
            self._shift = moved - time_s
        elif self._last is None and moved < 0:
            self._shift, moved = -moved, 0.0
        self._last = moved
        return moved


class Encoder:
    """Frames of one size; another size is another encoder."""

    def __init__(self, width: int, height: int) -> None:
        import av

        self.size = (width, height)
        self._output = _Output()
        # Tables at each frame: wherever a segment begins, they are there. No delay of the muxer's own.
        options = {"mpegts_flags": "pat_pmt_at_frames", "flush_packets": "1", "max_delay": "0"}
        self._container = av.open(self._output, mode="w", format="mpegts", options=options)
        self._stream = self._container.add_stream("libx264", rate=30, options={
            "preset": "veryfast", "tune": "zerolatency", "crf": "23", "forced-idr": "1", "g": "600", "bf": "0"})
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, CLOCK)
        self._begun_s: float | None = None

    def cuts_before(self, time_s: float) -> bool:
        """Whether a segment begins with the frame of this time."""
        return self._begun_s is None or time_s - self._begun_s >= SEGMENT_S

    def encode(self, pixels: numpy.ndarray, time_s: float) -> bytes:
        """The frame's bytes."""
        import av
        from av.video.frame import PictureType

        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = round(time_s * CLOCK), Fraction(1, CLOCK)
        if self.cuts_before(time_s):
            frame.pict_type = PictureType.I
            self._begun_s = time_s
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        return self._output.take()

    def close(self) -> bytes:
        """What was held back."""
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()
        return self._output.take()
