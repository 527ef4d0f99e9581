"""The network with 26 painting styles, which image-to-image and live video share.

It has no notion of text: a prompt only picks styles. "7" or "style 7" is one, "7:2, 19" a mixture; any other
words pick one by their checksum, the same words always the same.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from . import images
from .deadline import Deadline
from .network import Network

if TYPE_CHECKING:
    import numpy

STYLES = 26
MIN_SIDE = 32
_MIXTURE = re.compile(r"\s*(?:style\s*)?(\d{1,2})(?:\s*:\s*(\d{1,3}(?:\.\d{1,3})?))?\s*", re.IGNORECASE)


def weights(prompt: str) -> list[float]:
    """How much of each style, summing to 1."""
    found = [0.0] * STYLES
    for part in prompt.split(","):
        match = _MIXTURE.fullmatch(part)
        if not match or int(match[1]) >= STYLES:
            break
        found[int(match[1])] += float(match[2] or 1)
    else:
        if sum(found) > 0:
            return [weight / sum(found) for weight in found]
    chosen = zlib.crc32(prompt.strip().lower().encode()) % STYLES
    return [float(number == chosen) for number in range(STYLES)]


class Painter:
    """One picture at a time; any size of at least 32 pixels a side."""

    def __init__(self, directory: Path, device: str, threads: int) -> None:
        self._network = Network(directory / "multistyle26.onnx", device, threads)
        self.device = self._network.device

    def paint(self, pixels: numpy.ndarray, mixture: list[float], strength: float,
              deadline: Deadline) -> numpy.ndarray:
        """`strength` 0 is the picture as it was, 1 the painting alone."""
        import numpy

        planes = images.to_planes(pixels)
        inputs = {"image": planes, "style_weights": numpy.array(mixture, numpy.float32)}
        painted = self._network.run(inputs, deadline)[0]
        height, width = pixels.shape[:2]
        # The network works on multiples of four and may come out a little larger or smaller.
        if painted.shape[2:] != (height, width):
            painted = _fit(painted, height, width)
        return images.from_planes(planes + strength * (numpy.clip(painted, 0, 1) - planes))


def _fit(planes: numpy.ndarray, height: int, width: int) -> numpy.ndarray:
    import numpy

    cut = planes[:, :, :height, :width]
    return numpy.pad(cut, ((0, 0), (0, 0), (0, height - cut.shape[2]), (0, width - cut.shape[3])), mode="edge")
