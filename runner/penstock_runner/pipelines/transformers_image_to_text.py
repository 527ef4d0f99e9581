"""image-to-text with a captioning model's weights (BLIP, in transformers' form) that the operator supplies."""

from __future__ import annotations

from .. import images, torched
from ..deadline import Deadline
from ..fields import Fields
from . import Job, Setup

MAX_PIXELS = 4096 * 4096
MAX_PROMPT_CHARS = 500
MAX_NEW_TOKENS = 100


class ImageToText:
    name = "image-to-text"
    file_field = "image"
    failed = "Image-to-text pipeline error."

    @staticmethod
    def parse(fields: Fields) -> str:
        return fields.text("prompt", max_chars=MAX_PROMPT_CHARS)

    def __init__(self, setup: Setup) -> None:
        torched.need("torch", "transformers", "torchvision")
        from transformers import BlipForConditionalGeneration, BlipProcessor

        self.device, numbers = torched.place(setup.device, setup.threads)
        source = str(setup.directory)
        self._processor = BlipProcessor.from_pretrained(source, local_files_only=True)
        self._model = BlipForConditionalGeneration.from_pretrained(
            source, local_files_only=True, use_safetensors=True, torch_dtype=numbers).to(self.device).eval()
        self._numbers = numbers

    def run(self, job: Job) -> dict:
        import torch

        pixels = images.read(job.file, MAX_PIXELS, 2)
        # A prompt is the beginning of the caption.
        inputs = self._processor(images=pixels, text=job.params or None, return_tensors="pt").to(self.device, self._numbers)
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, stopping_criteria=[_until(job.deadline)])
        job.deadline.remaining_s()
        return {"text": self._processor.decode(tokens[0], skip_special_tokens=True).strip()}


def _until(deadline: Deadline):
    import torch
    from transformers import StoppingCriteria

    class Until(StoppingCriteria):
        def __call__(self, input_ids, scores, **_: object):
            return torch.full((input_ids.shape[0],), deadline.over(), dtype=torch.bool, device=input_ids.device)

    return Until()
