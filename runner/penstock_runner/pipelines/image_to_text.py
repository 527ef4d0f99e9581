"""image-to-text: reads the text in a picture (PP-OCRv4). It stands in for a captioning model, which it is not.

One network finds where text is, the other reads each line. The prompt means nothing to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import images
from ..deadline import Deadline
from ..errors import BadRequest
from ..fields import Fields
from ..network import Network
from . import Job, Setup

if TYPE_CHECKING:
    import numpy

MAX_PIXELS = 4096 * 4096
# The larger side of what the finder sees, in multiples of its stride; a small picture is enlarged for it.
MOST_SIDE, LEAST_SIDE, STRIDE = 1280, 736, 32
# A pixel is text from here on; a box counts from this mean on; it is widened by this much of area / perimeter.
PIXEL_THRESHOLD, BOX_THRESHOLD, WIDENING = 0.3, 0.5, 1.6
LEAST_BOX_PIXELS = 3
MAX_LINES = 500
LINE_HEIGHT, MAX_LINE_WIDTH = 48, 3200
# Lines that are read with less confidence than this are left out.
LEAST_CONFIDENCE = 0.5


@dataclass(frozen=True)
class Line:
    """Where a line of text is: four corners, clockwise from its top left."""

    corners: numpy.ndarray

    @property
    def top(self) -> float:
        return float(self.corners[:, 1].min())

    @property
    def left(self) -> float:
        return float(self.corners[:, 0].min())

    @property
    def height(self) -> float:
        return float(self.corners[:, 1].max()) - self.top


class ImageToText:
    name = "image-to-text"
    file_field = "image"
    failed = "Image-to-text pipeline error."

    @staticmethod
    def parse(fields: Fields) -> None:
        fields.text("prompt")

    def __init__(self, setup: Setup) -> None:
        self._finder = Network(setup.directory / "det.onnx", setup.device, setup.threads)
        self._reader = Network(setup.directory / "rec.onnx", setup.device, setup.threads)
        self.device = self._finder.device
        # Class 0 is "nothing here"; the space comes after the alphabet.
        self._alphabet = ["", *self._reader.metadata["character"].splitlines(), " "]

    def run(self, job: Job) -> dict:
        pixels = images.read(job.file, MAX_PIXELS)
        # The networks were trained on pictures as OpenCV reads them.
        pixels = pixels[:, :, ::-1]
        lines = in_reading_order(self._find(pixels, job.deadline))
        texts = [self._read(pixels, line, job.deadline) for line in lines[:MAX_LINES]]
        return {"text": "\n".join(text for text in texts if text)}

    def _find(self, pixels: numpy.ndarray, deadline: Deadline) -> list[Line]:
        import cv2
        import numpy

        height, width = pixels.shape[:2]
        if max(height, width) > 50 * min(height, width):
            raise BadRequest("the image is too narrow to read")
        factor = min(max(LEAST_SIDE / min(height, width), 1.0), MOST_SIDE / max(height, width))
        fit = [max(round(side * factor / STRIDE), 1) * STRIDE for side in (width, height)]
        seen = cv2.resize(numpy.ascontiguousarray(pixels), fit).astype(numpy.float32) / 127.5 - 1
        planes = numpy.ascontiguousarray(seen.transpose(2, 0, 1)[None])
        heat = self._finder.run({self._finder.inputs[0]: planes}, deadline)[0][0, 0]
        return boxes(heat, width / fit[0], height / fit[1])

    def _read(self, pixels: numpy.ndarray, line: Line, deadline: Deadline) -> str:
        import numpy

        cut = straighten(pixels, line)
        if cut is None:
            return ""
        planes = numpy.ascontiguousarray((cut.astype(numpy.float32) / 127.5 - 1).transpose(2, 0, 1)[None])
        scores = self._reader.run({self._reader.inputs[0]: planes}, deadline)[0][0]
        return decode(scores, self._alphabet)


def boxes(heat: numpy.ndarray, across: float, down: float) -> list[Line]:
    """Boxes around what the finder holds for text, in pixels of the picture."""
    import cv2
    import numpy

    mask = cv2.dilate((heat > PIXEL_THRESHOLD).astype(numpy.uint8), numpy.ones((2, 2), numpy.uint8))
    contours = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[-2]
    lines = []
    for contour in contours[:4 * MAX_LINES]:
        (x, y), (w, h), angle = cv2.minAreaRect(contour)
        if min(w, h) < LEAST_BOX_PIXELS:
            continue
        inside = numpy.zeros(heat.shape, numpy.uint8)
        left, top, wide, high = cv2.boundingRect(contour)
        cv2.fillPoly(inside, [contour], 1)
        window = (slice(top, top + high), slice(left, left + wide))
        if cv2.mean(heat[window], inside[window])[0] < BOX_THRESHOLD:
            continue
        grow = w * h * WIDENING / (2 * (w + h))
        corners = cv2.boxPoints(((x, y), (w + 2 * grow, h + 2 * grow), angle))
        lines.append(Line(clockwise(corners * [across, down])))
    return lines


def clockwise(corners: numpy.ndarray) -> numpy.ndarray:
    """From the top left: the left two by height, then the right two."""
    import numpy

    by_x = corners[numpy.argsort(corners[:, 0], kind="stable")]
    (tl, bl), (tr, br) = sorted(by_x[:2], key=lambda p: p[1]), sorted(by_x[2:], key=lambda p: p[1])
    return numpy.array([tl, tr, br, bl], numpy.float32)


def in_reading_order(lines: list[Line]) -> list[Line]:
    """From the top, and from the left where two are at the same height."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: line.top):
        if rows and line.top - rows[-1][0].top < rows[-1][0].height / 2:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.left)]


def straighten(pixels: numpy.ndarray, line: Line) -> numpy.ndarray | None:
    """The line as a picture of the reader's height; one that stands upright is laid down."""
    import cv2
    import numpy

    tl, tr, br, bl = line.corners
    width = int(max(numpy.linalg.norm(tr - tl), numpy.linalg.norm(br - bl)))
    height = int(max(numpy.linalg.norm(bl - tl), numpy.linalg.norm(br - tr)))
    if width < 2 or height < 2:
        return None
    target = numpy.array([[0, 0], [width, 0], [width, height], [0, height]], numpy.float32)
    how = cv2.getPerspectiveTransform(line.corners, target)
    cut = cv2.warpPerspective(numpy.ascontiguousarray(pixels), how, (width, height),
                              flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    if height > 1.5 * width:
        cut = numpy.ascontiguousarray(numpy.rot90(cut))
        width, height = height, width
    scaled = min(max(round(width * LINE_HEIGHT / height), LINE_HEIGHT // 4), MAX_LINE_WIDTH)
    return cv2.resize(cut, (scaled, LINE_HEIGHT))


def decode(scores: numpy.ndarray, alphabet: list[str]) -> str:
    """The likeliest sign of each column; repetitions are one sign, "nothing" separates (CTC)."""
    best = scores.argmax(axis=1)
    kept = [(int(sign), float(scores[at, sign])) for at, sign in enumerate(best)
            if sign != 0 and (at == 0 or sign != best[at - 1])]
    if not kept or sum(score for _, score in kept) / len(kept) < LEAST_CONFIDENCE:
        return ""
    return "".join(alphabet[sign] for sign, _ in kept if sign < len(alphabet)).strip()
