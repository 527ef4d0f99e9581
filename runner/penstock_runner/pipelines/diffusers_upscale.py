"""upscale with weights in diffusers' form (Stable Diffusion's ×4 upscaler) that the operator supplies."""

from __future__ import annotations

from .. import images, torched
from ..fields import Fields
from . import Job, Setup

# Sixteen times as many come out.
MAX_PIXELS = 512 * 512


class Upscale:
    name = "upscale"
    file_field = "image"
    failed = "Upscale pipeline error."

    @staticmethod
    def parse(fields: Fields) -> dict:
        fields.boolean("safety_check", True)
        return {"prompt": fields.text("prompt"),
                "num_inference_steps": fields.integer("num_inference_steps", 75, 1, torched.MAX_STEPS),
                "seed": torched.seed_of(fields)}

    def __init__(self, setup: Setup) -> None:
        self._pipe, self.device = torched.load_diffusers("DiffusionPipeline", setup.directory, setup.device, setup.threads)

    def run(self, job: Job) -> dict:
        from PIL import Image

        params = dict(job.params)
        seed = params.pop("seed")
        pixels = images.read(job.file, MAX_PIXELS, torched.LEAST_SIDE)
        size = torched.fitted(pixels.shape[1], pixels.shape[0])
        made = torched.paint(self._pipe, job.deadline, image=Image.fromarray(pixels).resize(size),
                             generator=torched.generators(seed, 1, self.device), **params)
        return {"images": torched.pictures(made, seed, images.png_url)}
