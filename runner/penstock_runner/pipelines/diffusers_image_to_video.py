"""image-to-video with weights in diffusers' form (Stable Video Diffusion) that the operator supplies: frames, which the
worker makes a film of."""

from __future__ import annotations

from .. import images, torched
from ..fields import Fields
from . import Job, Setup

DEFAULT_WIDTH, DEFAULT_HEIGHT = 1024, 576
# Frames that are made of latents at once: more is quicker and needs more memory.
DECODED_AT_ONCE = 4
MAX_IMAGE_PIXELS = 4096 * 4096


class ImageToVideo:
    name = "image-to-video"
    file_field = "image"
    failed = "Image-to-video pipeline error."

    @staticmethod
    def parse(fields: Fields) -> dict:
        fields.boolean("safety_check", True)
        params = {"width": torched.side(fields, "width", DEFAULT_WIDTH),
                  "height": torched.side(fields, "height", DEFAULT_HEIGHT),
                  "fps": fields.integer("fps", 6, 1, 60),
                  "motion_bucket_id": fields.integer("motion_bucket_id", 127, 0, 255),
                  "noise_aug_strength": fields.number("noise_aug_strength", 0.02, 0, 1),
                  "num_inference_steps": fields.integer("num_inference_steps", 25, 1, torched.MAX_STEPS),
                  "seed": torched.seed_of(fields)}
        # About 25 frames.
        torched.within(params["width"] * params["height"], 8)
        return params

    def __init__(self, setup: Setup) -> None:
        self._pipe, self.device = torched.load_diffusers("DiffusionPipeline", setup.directory, setup.device, setup.threads)

    def run(self, job: Job) -> dict:
        import numpy
        from PIL import Image

        params = dict(job.params)
        seed = params.pop("seed")
        [generator] = torched.generators(seed, 1, self.device)
        picture = Image.fromarray(images.read(job.file, MAX_IMAGE_PIXELS)).resize((params["width"], params["height"]))
        made = torched.paint(self._pipe, job.deadline, image=picture, generator=generator, decode_chunk_size=DECODED_AT_ONCE,
                             **params)
        [film] = made.frames
        return {"frames": [[{"url": images.png_url(numpy.asarray(frame.convert("RGB"))), "seed": seed, "nsfw": False}
                            for frame in film]]}
