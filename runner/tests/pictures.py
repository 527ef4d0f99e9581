"""Pictures to send and pictures that came back."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy
from PIL import Image


def png(image: Image.Image) -> bytes:
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def shrunk(photo: bytes, width: int, height: int) -> Image.Image:
    return Image.open(io.BytesIO(photo)).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def received(answer: dict, number: int = 0) -> Image.Image:
    kind, _, data = answer["images"][number]["url"].partition(",")
    assert kind == "data:image/png;base64", kind
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def values(image: Image.Image) -> numpy.ndarray:
    return numpy.asarray(image, dtype=numpy.float64)


def sharpness(image: Image.Image) -> float:
    """Mean difference of neighbours."""
    return float(numpy.abs(numpy.diff(values(image), axis=1)).mean())


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Correlation."""
    return float(numpy.corrcoef(values(one).ravel(), values(other).ravel())[0, 1])


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size, with too few pixels behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
            + chunk(b"IEND", b""))
