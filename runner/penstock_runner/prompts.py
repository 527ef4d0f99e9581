"""What is pointed at in a picture, and masks as answers: SAM 2's fields, which are JSON inside form fields, read with
bounds, and its answer, whose masks, scores and logits are lists written as text."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import BadRequest
from .fields import Fields

if TYPE_CHECKING:
    import numpy

MAX_POINTS = 256
# Three masks of so many pixels, with a few characters each, stay below the 64 MiB that a worker reads.
MAX_PIXELS = 1920 * 1080
# An earlier answer's logits, given back as a hint, have this side, and so have ours.
LOGITS_SIDE = 256
# A form field has at most 64 KiB, and such a hint more.
MAX_MASK_CHARS = 4 << 20
MAX_LIST_CHARS = 64 << 10


@dataclass(frozen=True)
class Placed:
    """A prompt in pixels of its picture: points (x, y, whether it belongs to the thing), a box (left, top, right,
    bottom), an earlier mask's logits [256, 256]."""

    points: list[tuple[float, float, bool]]
    box: tuple[float, float, float, float] | None
    mask: numpy.ndarray | None


@dataclass(frozen=True)
class Prompt:
    points: list[tuple[float, float]]
    labels: list[int]
    box: list[float] | None
    mask: numpy.ndarray | None
    multimask: bool
    return_logits: bool
    # Whether coordinates are pixels (SAM 2 then divides them by the size), or parts of the size already.
    in_pixels: bool

    def placed(self, width: int, height: int) -> Placed:
        """In pixels; an error if it points outside the picture."""
        across, down = (1, 1) if self.in_pixels else (width, height)
        points = [(x * across, y * down, label == 1) for (x, y), label in zip(self.points, self.labels)]
        corners = []
        if self.box:
            left, top, right, bottom = self.box
            corners = [(left * across, top * down), (right * across, bottom * down)]
        for x, y in [*((x, y) for x, y, _ in points), *corners]:
            if not (0 <= x <= width and 0 <= y <= height):
                raise BadRequest(f"the point {x:g}, {y:g} is outside the image of {width} x {height} pixels")
        if corners and not (corners[0][0] < corners[1][0] and corners[0][1] < corners[1][1]):
            raise BadRequest("box must be left, top, right, bottom, and hold a pixel")
        return Placed(points, (*corners[0], *corners[1]) if corners else None, self.mask)


def parse(fields: Fields) -> Prompt:
    points = _numbers(fields, "point_coords", MAX_LIST_CHARS)
    labels = _numbers(fields, "point_labels", MAX_LIST_CHARS)
    box = _numbers(fields, "box", MAX_LIST_CHARS)
    if points and not isinstance(points[0], list):
        points = [points]
    if len(points) > MAX_POINTS:
        raise BadRequest(f"point_coords has more than {MAX_POINTS} points")
    if any(not isinstance(point, list) or len(point) != 2 or any(isinstance(part, list) for part in point)
           for point in points):
        raise BadRequest("point_coords must be a list of [x, y]")
    if len(labels) != len(points) or any(label not in (0, 1) for label in labels):
        raise BadRequest("point_labels must have a 1 (the thing) or a 0 (not it) for each of point_coords")
    if len(box) == 1 and isinstance(box[0], list):
        [box] = box
    if box and (len(box) != 4 or any(isinstance(part, list) for part in box)):
        raise BadRequest("box must be [left, top, right, bottom]")
    return Prompt(points, labels, box or None, _mask(fields), fields.boolean("multimask_output", True),
                  fields.boolean("return_logits", True), fields.boolean("normalize_coords", True))


def _numbers(fields: Fields, name: str, max_chars: int) -> list:
    """A list of numbers, or of lists of them, written as JSON; absent or empty is no list."""
    text = fields.text(name, max_chars=max_chars)
    if not text.strip() or text.strip() == "null":
        return []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequest(f"{name} is not JSON") from None
    if not isinstance(found, list) or not _only_numbers(found, 3):
        raise BadRequest(f"{name} must be a list of numbers")
    return found


def _only_numbers(values: list, depth: int) -> bool:
    for value in values:
        if isinstance(value, list):
            if depth == 0 or not _only_numbers(value, depth - 1):
                return False
        elif isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            return False
    return True


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _mask(fields: Fields) -> numpy.ndarray | None:
    """`mask_input`: an earlier answer's logits, [1, 256, 256] or [256, 256]."""
    found = _numbers(fields, "mask_input", MAX_MASK_CHARS)
    if not found:
        return None
    import numpy

    try:
        mask = numpy.array(found, numpy.float32)
    except (ValueError, OverflowError):
        mask = numpy.zeros(0)
    if mask.shape not in ((LOGITS_SIDE, LOGITS_SIDE), (1, LOGITS_SIDE, LOGITS_SIDE)):
        raise BadRequest(f"mask_input must be the logits of one mask, {LOGITS_SIDE} x {LOGITS_SIDE}")
    return mask.reshape(LOGITS_SIDE, LOGITS_SIDE)


def answer(masks: numpy.ndarray, scores: list[float], logits: numpy.ndarray) -> dict:
    """The answer: masks [n, height, width] of the picture's size (logits, or 0 and 1), their scores, and the logits at
    256 x 256, all of it written as text to two decimals."""
    return {"masks": _written(masks), "scores": json.dumps([round(score, 6) for score in scores]),
            "logits": _written(logits)}


def _written(tables: numpy.ndarray) -> str:
    """Row by row: all numbers at once would be a gigabyte of objects."""
    rows = ("[" + ", ".join(json.dumps(row.astype(float).round(2).tolist()) for row in table) + "]" for table in tables)
    return "[" + ", ".join(rows) + "]"
