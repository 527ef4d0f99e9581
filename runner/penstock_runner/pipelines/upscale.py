"""upscale: Real-ESRGAN, four times the size. The prompt and the number of steps mean nothing to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import images, ncnn
from ..fields import Fields
from ..network import Network
from . import Job, Setup

if TYPE_CHECKING:
    import numpy

FACTOR = 4
# Sixteen times as many come out, and the answer must stay below 64 MiB.
MAX_PIXELS = 1024 * 768
# Side of what the network sees at once, and how much of it is context that is thrown away.
TILE = 192
MARGIN = 16


class Upscale:
    name = "upscale"
    file_field = "image"
    failed = "Upscale pipeline error."

    @staticmethod
    def parse(fields: Fields) -> int:
        fields.text("prompt")
        fields.boolean("safety_check", True)
        return fields.seed() or 0

    def __init__(self, setup: Setup) -> None:
        graph = ncnn.to_onnx(setup.directory / "model.param", setup.directory / "model.bin")
        self._network = Network(graph, setup.device, setup.threads)
        self.device = self._network.device

    def run(self, job: Job) -> dict:
        pixels = images.read(job.file, MAX_PIXELS)
        return images.answer([(self._enlarge(pixels, job), job.params)])

    def _enlarge(self, pixels: numpy.ndarray, job: Job) -> numpy.ndarray:
        import numpy

        height, width = pixels.shape[:2]
        result = numpy.empty((height * FACTOR, width * FACTOR, 3), numpy.uint8)
        for tile in tiles(height, width):
            planes = images.to_planes(pixels[tile.seen_rows, tile.seen_columns])
            [large] = self._network.run({"input": planes}, job.deadline)
            tile.put(images.from_planes(large), result)
        return result


class Tile:
    """A piece of the picture, and the margin around it that the network sees besides."""

    def __init__(self, top: int, left: int, height: int, width: int) -> None:
        self.top, self.left = top, left
        self.bottom, self.right = min(top + TILE, height), min(left + TILE, width)
        self.seen_rows = slice(max(top - MARGIN, 0), min(self.bottom + MARGIN, height))
        self.seen_columns = slice(max(left - MARGIN, 0), min(self.right + MARGIN, width))

    def put(self, large: numpy.ndarray, result: numpy.ndarray) -> None:
        y = (self.top - self.seen_rows.start) * FACTOR
        x = (self.left - self.seen_columns.start) * FACTOR
        height, width = (self.bottom - self.top) * FACTOR, (self.right - self.left) * FACTOR
        result[self.top * FACTOR:self.bottom * FACTOR, self.left * FACTOR:self.right * FACTOR] = \
            large[y:y + height, x:x + width]


def tiles(height: int, width: int) -> list[Tile]:
    return [Tile(top, left, height, width) for top in range(0, height, TILE) for left in range(0, width, TILE)]
