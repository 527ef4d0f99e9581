"""text-to-image with weights in diffusers' form that the operator supplies."""

from __future__ import annotations

from .. import images, torched
from ..fields import Fields
from . import Job, Setup

DEFAULT_SIDE = 512


class TextToImage:
    name = "text-to-image"
    file_field = None
    failed = "Text-to-image pipeline error."

    @staticmethod
    def parse(fields: Fields) -> dict:
        torched.no_loras(fields)
        fields.boolean("safety_check", True)
        params = {"prompt": fields.needed_text("prompt"), "negative_prompt": fields.text("negative_prompt") or None,
                  "width": torched.side(fields, "width", DEFAULT_SIDE),
                  "height": torched.side(fields, "height", DEFAULT_SIDE),
                  "guidance_scale": fields.number("guidance_scale", 7.5, 0, torched.MAX_GUIDANCE),
                  "num_inference_steps": fields.integer("num_inference_steps", 50, 1, torched.MAX_STEPS),
                  "num_images_per_prompt": fields.integer("num_images_per_prompt", 1, 1, torched.MAX_PICTURES),
                  "seed": torched.seed_of(fields)}
        torched.within(params["width"] * params["height"], params["num_images_per_prompt"])
        return params

    def __init__(self, setup: Setup) -> None:
        self._pipe, self.device = torched.load_diffusers("AutoPipelineForText2Image", setup.directory, setup.device,
                                                         setup.threads)

    def run(self, job: Job) -> dict:
        params = dict(job.params)
        seed = params.pop("seed")
        generator = torched.generators(seed, params["num_images_per_prompt"], self.device)
        made = torched.paint(self._pipe, job.deadline, generator=generator, **params)
        return {"images": torched.pictures(made, seed, images.png_url)}
