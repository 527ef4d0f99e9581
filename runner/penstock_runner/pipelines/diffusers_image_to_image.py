"""image-to-image with weights in diffusers' form that the operator supplies."""

from __future__ import annotations

from .. import images, torched
from ..fields import Fields
from . import Job, Setup


class ImageToImage:
    name = "image-to-image"
    file_field = "image"
    failed = "Image-to-image pipeline error."

    @staticmethod
    def parse(fields: Fields) -> dict:
        torched.no_loras(fields)
        fields.boolean("safety_check", True)
        return {"prompt": fields.text("prompt"), "negative_prompt": fields.text("negative_prompt") or None,
                "strength": fields.number("strength", 0.8, 0, 1),
                "guidance_scale": fields.number("guidance_scale", 7.5, 0, torched.MAX_GUIDANCE),
                "image_guidance_scale": fields.number("image_guidance_scale", 1.5, 0, torched.MAX_GUIDANCE),
                "num_inference_steps": fields.integer("num_inference_steps", 100, 1, torched.MAX_STEPS),
                "num_images_per_prompt": fields.integer("num_images_per_prompt", 1, 1, torched.MAX_PICTURES),
                "seed": torched.seed_of(fields)}

    def __init__(self, setup: Setup) -> None:
        self._pipe, self.device = torched.load_diffusers("AutoPipelineForImage2Image", setup.directory, setup.device,
                                                         setup.threads)

    def run(self, job: Job) -> dict:
        from PIL import Image

        params = dict(job.params)
        seed, count = params.pop("seed"), params["num_images_per_prompt"]
        pixels = images.read(job.file, torched.MAX_PIXELS, torched.STEP)
        width, height = torched.fitted(pixels.shape[1], pixels.shape[0])
        torched.within(width * height, count)
        # Less than one step would be none, which the pipelines do not take.
        params["strength"] = max(params["strength"], 1 / params["num_inference_steps"])
        made = torched.paint(self._pipe, job.deadline, image=Image.fromarray(pixels).resize((width, height)),
                             generator=torched.generators(seed, count, self.device), **params)
        return {"images": torched.pictures(made, seed, images.png_url)}
