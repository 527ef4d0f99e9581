"""How a decoded frame travels from the decoding child: a header, then RGB bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

# Presentation time in seconds, bytes of input up to its end, width, height.
_HEADER = struct.Struct("<dqII")


class NotAFrame(Exception):
    """What came is no frame within the limit."""


@dataclass(frozen=True)
class Frame:
    time_s: float
    position: int
    width: int
    height: int
    data: bytes


def write(target: BinaryIO, frame: Frame) -> None:
    target.write(_HEADER.pack(frame.time_s, frame.position, frame.width, frame.height))
    target.write(frame.data)
    target.flush()


def read(source: BinaryIO, max_pixels: int) -> Frame | None:
    """The next frame; None at the end, be it in the middle of one."""
    header = source.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    time_s, position, width, height = _HEADER.unpack(header)
    if not 0 < width * height <= max_pixels or abs(time_s) > 1e9:
        raise NotAFrame(f"{width} x {height} at {time_s}")
    data = source.read(width * height * 3)
    return Frame(time_s, position, width, height, data) if len(data) == width * height * 3 else None


def fit(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """The size with its shape kept, at most so many pixels, even sides of at least 32."""
    factor = min((max_pixels / (width * height)) ** 0.5, 1.0)
    fitted = [max(int(side * factor) // 2 * 2, 32) for side in (width, height)]
    if fitted[0] * fitted[1] > max_pixels:  # a strip, widened above
        larger = fitted.index(max(fitted))
        fitted[larger] = max(max_pixels // fitted[1 - larger] // 2 * 2, 32)
    return fitted[0], fitted[1]
