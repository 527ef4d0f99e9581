"""segment-anything-2 with SAM 2's weights in transformers' form that the operator supplies."""

from __future__ import annotations

from .. import images, prompts, torched
from ..fields import Fields
from . import Job, Setup


class SegmentAnything2:
    name = "segment-anything-2"
    file_field = "image"
    max_field_bytes = prompts.MAX_MASK_CHARS
    failed = "Segment-anything-2 pipeline error."

    @staticmethod
    def parse(fields: Fields) -> prompts.Prompt:
        return prompts.parse(fields)

    def __init__(self, setup: Setup) -> None:
        torched.need("torch", "transformers", "torchvision")
        from transformers import Sam2Model, Sam2Processor

        # Half precision moves edges: not worth it for one picture.
        self.device, _ = torched.place(setup.device, setup.threads)
        source = str(setup.directory)
        self._processor = Sam2Processor.from_pretrained(source, local_files_only=True)
        self._model = Sam2Model.from_pretrained(source, local_files_only=True, use_safetensors=True).to(self.device).eval()

    def run(self, job: Job) -> dict:
        import torch

        prompt: prompts.Prompt = job.params
        pixels = images.read(job.file, prompts.MAX_PIXELS)
        height, width = pixels.shape[:2]
        placed = prompt.placed(width, height)
        asked = {}
        if placed.points:
            asked["input_points"] = [[[[x, y] for x, y, _ in placed.points]]]
            asked["input_labels"] = [[[int(wanted) for _, _, wanted in placed.points]]]
        if placed.box:
            asked["input_boxes"] = [[list(placed.box)]]
        inputs = self._processor(images=pixels, return_tensors="pt", **asked).to(self.device)
        sizes = inputs.pop("original_sizes")
        if placed.mask is not None:
            inputs["input_masks"] = torch.from_numpy(placed.mask)[None, None].to(self.device)
        job.deadline.remaining_s()
        with torch.inference_mode():
            found = self._model(**inputs, multimask_output=prompt.multimask)
        job.deadline.remaining_s()
        [large] = self._processor.post_process_masks(found.pred_masks.cpu(), sizes, binarize=False)
        scores = found.iou_scores.cpu().reshape(-1)
        order = scores.argsort(descending=True)
        masks = large.reshape(-1, height, width)[order].numpy()
        return prompts.answer(masks if prompt.return_logits else (masks > 0).astype("float32"), scores[order].tolist(),
                              found.pred_masks.cpu().reshape(-1, *found.pred_masks.shape[-2:])[order].numpy())
