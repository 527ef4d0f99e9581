"""segment-anything-2: a stand-in without weights. OpenCV's GrabCut tells colours of what was pointed at from colours
of the rest; it has no notion of things. Request and answer are those of SAM 2.

Three masks are made from three guesses at how large the thing is. The score of a mask is how little the last rounds
of GrabCut changed it (intersection over union), less if most of the guess was dropped: no prediction of how good it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import images, prompts
from ..deadline import Deadline
from ..fields import Fields
from . import Job, Setup

if TYPE_CHECKING:
    import numpy

# Side of what GrabCut sees. Its cost is that of the pixels; edges are drawn at this size.
WORK_SIDE = 320
MIN_SIDE = 8
# Rounds of GrabCut, and how many of them the score compares.
ROUNDS, LAST_ROUNDS = 3, 2
# Around a point, in parts of the smaller side: what is surely the thing, and what may be, small to large.
SURE = 0.015
REACHES = (0.12, 0.25, 0.5)
# What the answer calls certain: logits of a stand-in are this or its negative.
CERTAIN = 10


class SegmentAnything2:
    name = "segment-anything-2"
    file_field = "image"
    max_field_bytes = prompts.MAX_MASK_CHARS
    failed = "Segment-anything-2 pipeline error."

    @staticmethod
    def parse(fields: Fields) -> prompts.Prompt:
        return prompts.parse(fields)

    def __init__(self, _: Setup) -> None:
        import cv2

        # One job has one thread; more of them would take the processor from other runners.
        cv2.setNumThreads(1)
        self.device = "cpu"

    def run(self, job: Job) -> dict:
        prompt: prompts.Prompt = job.params
        pixels = images.read(job.file, prompts.MAX_PIXELS, MIN_SIDE)
        height, width = pixels.shape[:2]
        placed = prompt.placed(width, height)
        scene = Scene(pixels, placed)
        scene.salient = self._salient(pixels, scene.shape, job.deadline)
        # One mask of a box, or of what stands out, begins with all of it.
        whole = placed.box or scene.salient is not None
        reaches = REACHES if prompt.multimask else REACHES[2:] if whole else REACHES[1:2]
        found = sorted((scene.cut(reach, job.deadline) for reach in reaches), key=lambda cut: -cut.score)
        return told(prompt, found, width, height)

    def _salient(self, pixels: numpy.ndarray, shape: tuple[int, int], deadline: Deadline) -> numpy.ndarray | None:
        """What stands out in the picture, for a model that knows."""
        return None


def told(prompt: prompts.Prompt, found: list[Cut], width: int, height: int) -> dict:
    import numpy

    low, high = (-CERTAIN, CERTAIN) if prompt.return_logits else (0, 1)
    small = (prompts.LOGITS_SIDE, prompts.LOGITS_SIDE)
    return prompts.answer(numpy.stack([drawn(cut.mask, width, height, low, high) for cut in found]),
                          [cut.score for cut in found],
                          numpy.stack([drawn(cut.mask, *small, -CERTAIN, CERTAIN) for cut in found]))


def drawn(mask: numpy.ndarray, width: int, height: int, low: int, high: int) -> numpy.ndarray:
    """A mask at another size, in two values."""
    import cv2
    import numpy

    soft = cv2.resize(mask.astype(numpy.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return numpy.where(soft > 0.5, numpy.float32(high), numpy.float32(low))


@dataclass(frozen=True)
class Cut:
    """A mask (bool, of the working size), and how steady it was."""

    mask: numpy.ndarray
    score: float


class Scene:
    """A picture small enough to work on, and what was pointed at in it."""

    def __init__(self, pixels: numpy.ndarray, prompt: prompts.Placed) -> None:
        import cv2
        import numpy

        height, width = pixels.shape[:2]
        factor = min(WORK_SIDE / max(height, width), 1.0)
        self._width, self._height = max(round(width * factor), 1), max(round(height * factor), 1)
        small = cv2.resize(numpy.ascontiguousarray(pixels), (self._width, self._height), interpolation=cv2.INTER_AREA)
        self._pixels = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
        across, down = self._width / width, self._height / height
        self._points = [(min(int(x * across), self._width - 1), min(int(y * down), self._height - 1), wanted)
                        for x, y, wanted in prompt.points]
        self._box = None
        if prompt.box:
            left, top, right, bottom = prompt.box
            self._box = (int(left * across), int(top * down),
                         max(round(right * across), int(left * across) + 1),
                         max(round(bottom * down), int(top * down) + 1))
        self._earlier = prompt.mask
        # What stands out [height, width], if somebody knows.
        self.salient: numpy.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the working size."""
        return self._height, self._width

    def cut(self, reach: float, deadline: Deadline) -> Cut:
        import cv2
        import numpy

        guess = self._guess(reach)
        # Both sorts are needed to tell them apart.
        known = numpy.isin(guess, (cv2.GC_FGD, cv2.GC_PR_FGD))
        if known.all() or not known.any():
            return Cut(known, 1.0)
        models = numpy.zeros((1, 65)), numpy.zeros((1, 65))
        deadline.remaining_s()
        # The same start gives the same mask.
        cv2.setRNGSeed(0)
        cv2.grabCut(self._pixels, guess, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
        before = self._chosen(guess)
        deadline.remaining_s()
        cv2.grabCut(self._pixels, guess, None, *models, LAST_ROUNDS, cv2.GC_EVAL)
        after = self._chosen(guess)
        if not after.any():
            # The colours tell nothing apart.
            return Cut(known, 0.0)
        steady = (before & after).sum() / (before | after).sum()
        return Cut(after, round(float(steady * min(after.sum() / known.sum(), 1.0)), 4))

    def _guess(self, reach: float) -> numpy.ndarray:
        """What GrabCut starts from: outside the box is surely something else, around a point is surely the thing."""
        import cv2
        import numpy

        least = min(self._width, self._height)
        surely, perhaps = max(round(SURE * least), 1), max(round(reach * least), 2)
        wanted = [(x, y) for x, y, want in self._points if want]
        guess = numpy.full((self._height, self._width), cv2.GC_PR_BGD, numpy.uint8)
        if self._earlier is not None:
            earlier = cv2.resize(self._earlier, (self._width, self._height))
            guess[earlier > 0] = cv2.GC_PR_FGD
        if self._box:
            left, top, right, bottom = self._box
            if self._earlier is None:
                # The middle of the box is likelier than its corners: the larger the guess, the less so.
                inset = (0.5 - reach) / 2
                inset_x, inset_y = int((right - left) * inset), int((bottom - top) * inset)
                guess[top + inset_y:bottom - inset_y, left + inset_x:right - inset_x] = cv2.GC_PR_FGD
        elif self._earlier is None:
            for x, y in wanted:
                cv2.circle(guess, (x, y), perhaps, cv2.GC_PR_FGD, -1)
            if not wanted:
                # Only told what it is not, or nothing: what is in the middle, but for a margin.
                edge = max(round((0.5 - reach) * least / 2), 1)
                guess[edge:-edge, edge:-edge] = cv2.GC_PR_FGD
        if self.salient is not None and self._earlier is None:
            self._narrow(guess, reach)
        if self._box:
            outside = numpy.ones(guess.shape, bool)
            outside[top:bottom, left:right] = False
            guess[outside] = cv2.GC_BGD
        for x, y, want in self._points:
            cv2.circle(guess, (x, y), surely, cv2.GC_FGD if want else cv2.GC_BGD, -1)
        return guess

    def _narrow(self, guess: numpy.ndarray, reach: float) -> None:
        """When what was pointed at stands out, the guess is what stands out: all of it, or as far as it reaches."""
        import cv2

        likely = guess == cv2.GC_PR_FGD
        wanted = [self.salient[y, x] for x, y, want in self._points if want]
        if not (all(wanted) if wanted else (likely & self.salient).any()):
            return
        guess[likely] = cv2.GC_PR_BGD
        guess[self.salient & (likely | (reach == REACHES[-1]))] = cv2.GC_PR_FGD

    def _chosen(self, guess: numpy.ndarray) -> numpy.ndarray:
        """What GrabCut holds for the thing: with points only, the pieces that they lie in."""
        import cv2
        import numpy

        mask = numpy.isin(guess, (cv2.GC_FGD, cv2.GC_PR_FGD))
        wanted = [(x, y) for x, y, want in self._points if want]
        if self._box or self._earlier is not None or not wanted:
            return mask
        _, pieces = cv2.connectedComponents(mask.astype(numpy.uint8), connectivity=4)
        chosen = {int(pieces[y, x]) for x, y in wanted} - {0}
        return numpy.isin(pieces, list(chosen))
