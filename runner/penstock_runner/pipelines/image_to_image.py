"""image-to-image: style transfer. The prompt picks styles and nothing else (style.py)."""

from __future__ import annotations

from dataclasses import dataclass

from .. import images, style
from ..fields import Fields
from . import Job, Setup

# Memory grows with the picture: 0.8 GiB at 1280 x 720.
MAX_PIXELS = 1920 * 1080
MAX_PICTURES = 8


@dataclass(frozen=True)
class Params:
    prompt: str
    strength: float
    seed: int
    count: int


class ImageToImage:
    name = "image-to-image"
    file_field = "image"
    failed = "Image-to-image pipeline error."

    @staticmethod
    def parse(fields: Fields) -> Params:
        fields.boolean("safety_check", True)
        return Params(fields.text("prompt"), fields.number("strength", 0.8, 0, 1), fields.seed() or 0,
                      fields.integer("num_images_per_prompt", 1, 1, MAX_PICTURES))

    def __init__(self, setup: Setup) -> None:
        self._painter = style.Painter(setup.directory, setup.device, setup.threads)
        self.device = self._painter.device

    def run(self, job: Job) -> dict:
        pixels = images.read(job.file, MAX_PIXELS, style.MIN_SIDE)
        params: Params = job.params
        mixture = style.weights(params.prompt)
        painted = self._painter.paint(pixels, mixture, params.strength, job.deadline)
        # Several pictures are several styles: the one asked for, then its neighbours in the list.
        made = [(painted, params.seed)]
        for turn in range(1, params.count):
            turned = mixture[-turn:] + mixture[:-turn]
            made.append((self._painter.paint(pixels, turned, params.strength, job.deadline), params.seed + turn))
        return images.answer(made)
