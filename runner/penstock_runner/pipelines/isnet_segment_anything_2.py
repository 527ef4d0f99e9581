"""segment-anything-2: the stand-in with GrabCut, helped by a network that knows what stands out in a picture (ISNet). It
still does not know SAM's things: of two that do not stand out it tells colours only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..deadline import Deadline
from ..network import Network
from . import Setup, segment_anything_2

if TYPE_CHECKING:
    import numpy

# What the network sees, whatever the picture's shape.
SIDE = 1024
THRESHOLD = 0.5


class SegmentAnything2(segment_anything_2.SegmentAnything2):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._network = Network(setup.directory / "isnet.onnx", setup.device, setup.threads)
        self.device = self._network.device

    def _salient(self, pixels: numpy.ndarray, shape: tuple[int, int], deadline: Deadline) -> numpy.ndarray | None:
        import cv2
        import numpy

        seen = cv2.resize(numpy.ascontiguousarray(pixels), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).astype(numpy.float32)
        planes = numpy.ascontiguousarray(((seen - 128) / 256).transpose(2, 0, 1)[None])
        heat = self._network.run({self._network.inputs[0]: planes}, deadline)[0].reshape(SIDE, SIDE)
        found = cv2.resize(heat, (shape[1], shape[0]), interpolation=cv2.INTER_AREA) > THRESHOLD
        return found if found.any() else None
