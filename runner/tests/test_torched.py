"""Weights that the operator supplies, for torch. What needs no torch is tested everywhere; the pipelines themselves on
tiny networks with random weights, where torch, diffusers, transformers, accelerate and torchvision are installed."""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
import unittest
from pathlib import Path

import media
import numpy
import pictures
import tiny_torch
from process import Runner

from penstock_runner import pipelines, torched
from penstock_runner.errors import BadRequest
from penstock_runner.fields import Fields

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "torchvision")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]


class Requests(unittest.TestCase):
    """What a request may say is decided without torch."""

    def refused(self, pipeline: str, **fields) -> str:
        module, kind = pipelines.ALL[pipeline, "diffusers"]
        kind = getattr(importlib.import_module(f"penstock_runner.pipelines.{module}"), kind)
        with self.assertRaises(BadRequest) as refusal:
            kind.parse(Fields({"prompt": "x", **fields}))
        return refusal.exception.message

    def test_bounds(self) -> None:
        for pipeline in ("text-to-image", "image-to-image"):
            self.assertIn("loras", self.refused(pipeline, loras='{"a/b": 1}'))
            self.assertIn("1 to 8", self.refused(pipeline, num_images_per_prompt=9))
            self.assertIn("0 to 50", self.refused(pipeline, guidance_scale="1e9"))
        for pipeline in ("text-to-image", "image-to-image", "image-to-video", "upscale"):
            self.assertIn("1 to 200", self.refused(pipeline, num_inference_steps=201))
            self.assertIn("seed", self.refused(pipeline, seed="9" * 40))
        for pipeline in ("text-to-image", "image-to-video"):
            self.assertIn("multiple of 8", self.refused(pipeline, width=513))
            self.assertIn("64 to 2048", self.refused(pipeline, height=4096))
        self.assertIn("pixels are made", self.refused("text-to-image", width=2048, height=2048, num_images_per_prompt=3))
        self.assertIn("pixels are made", self.refused("image-to-video", width=2048, height=2048))
        self.assertIn("prompt", self.refused("text-to-image", prompt=" "))

    def test_sizes_that_the_networks_can_work_on(self) -> None:
        self.assertEqual(torched.fitted(451, 300), (448, 304))
        self.assertEqual(torched.fitted(8, 9000), (64, 2048))


@unittest.skipUnless(MISSING, "the packages are there")
class WithoutPackages(unittest.TestCase):
    def test_the_log_says_what_is_missing_and_health_that_it_is_broken(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "model_index.json").write_text("{}")
            runner = Runner("--pipeline", "text-to-image", "--model-id", "a/b", "--model-dir", folder)
            try:
                self.assertEqual(runner.call("GET", "/health"), (200, {"status": "ERROR"}))
            finally:
                runner.process.stdin.close()
                runner.process.wait(60)
                said = "".join(runner.log) + runner.process.stderr.read()
                runner.process.stderr.close()
                runner._folder.cleanup()
            self.assertRegex(said, "these weights need .*torch.*: install them")


@unittest.skipIf(MISSING, f"{', '.join(MISSING)} not installed: pip install {' '.join(PACKAGES)}")
class Tiny(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.photo = pictures.png(pictures.shrunk(media.picture("chelsea.png"), 100, 80))

    def runner(self, pipeline: str, make) -> Runner:
        place = make(Path(self.folder.name) / make.__name__)
        runner = Runner("--pipeline", pipeline, "--model-id", "a/b", "--model-dir", str(place))
        self.addCleanup(runner.close)
        self.assertEqual(runner.call("GET", "/health"), (200, {"status": "OK"}), "".join(runner.log))
        return runner

    def test_text_to_image(self) -> None:
        runner = self.runner("text-to-image", tiny_torch.stable_diffusion)
        fields = {"prompt": "a kite", "width": 64, "height": 72, "num_inference_steps": 2, "seed": 5}
        status, two = runner.json("/text-to-image", **fields, num_images_per_prompt=2)
        self.assertEqual(status, 200, two)
        self.assertEqual([image["seed"] for image in two["images"]], [5, 6])
        self.assertEqual(pictures.received(two).size, (64, 72))
        self.assertEqual(runner.json("/text-to-image", **fields), runner.json("/text-to-image", **fields))
        _, other = runner.json("/text-to-image", **{**fields, "prompt": "x"})
        self.assertNotEqual(other["images"][0]["url"], two["images"][0]["url"])

    def test_who_hangs_up_ends_the_job_between_steps(self) -> None:
        runner = self.runner("text-to-image", tiny_torch.stable_diffusion)
        small = {"prompt": "x", "width": 64, "height": 64, "num_inference_steps": 1}
        runner.begun("/text-to-image", {**small, "num_inference_steps": 200}, small).close()
        until = time.monotonic() + 60
        while (got := runner.json("/text-to-image", **small))[0] != 200:
            self.assertLess(time.monotonic(), until, got)
        runner.process.stdin.close()
        self.assertIn("ended early: the caller hung up", runner.process.stderr.read())

    def test_image_to_image(self) -> None:
        runner = self.runner("image-to-image", tiny_torch.stable_diffusion)
        for strength in ("0.5", "0.0", "1.0"):
            status, answer = runner.form("/image-to-image", "image", self.photo, prompt="x", strength=strength,
                                         num_inference_steps="3", seed="1")
            self.assertEqual(status, 200, answer)
            self.assertEqual(pictures.received(answer).size, (96, 80))

    def test_upscale(self) -> None:
        runner = self.runner("upscale", tiny_torch.upscaler)
        status, answer = runner.form("/upscale", "image", self.photo, prompt="x", num_inference_steps="2")
        self.assertEqual(status, 200, answer)
        self.assertEqual(pictures.received(answer).size, (96 * 4, 80 * 4))
        self.assertEqual(runner.form("/upscale", "image", pictures.bomb(513, 512), prompt="x")[0], 400)

    def test_image_to_video(self) -> None:
        runner = self.runner("image-to-video", tiny_torch.video_diffusion)
        status, answer = runner.form("/image-to-video", "image", self.photo, width="64", height="64", num_inference_steps="2",
                                     fps="7", seed="9")
        self.assertEqual(status, 200, answer)
        [film] = answer["frames"]
        self.assertEqual([(frame["seed"], frame["nsfw"]) for frame in film], [(9, False)] * 3)
        self.assertEqual(pictures.received({"images": film}).size, (64, 64))

    def test_segment_anything_2(self) -> None:
        runner = self.runner("segment-anything-2", tiny_torch.sam2)
        prompts = [{"point_coords": "[[50, 40], [3, 3]]", "point_labels": "[1, 0]"}, {"box": "[10, 10, 60, 60]"}, {}]
        for fields in prompts:
            status, answer = runner.form("/segment-anything-2", "image", self.photo, **fields)
            self.assertEqual(status, 200, answer)
            masks, scores, logits = (numpy.array(json.loads(answer[name])) for name in ("masks", "scores", "logits"))
            self.assertEqual((masks.shape, scores.shape, logits.shape), ((3, 80, 100), (3,), (3, 256, 256)))
            self.assertEqual(sorted(scores, reverse=True), scores.tolist())
        hint = json.dumps(logits[:1].tolist())
        status, answer = runner.form("/segment-anything-2", "image", self.photo, mask_input=hint, multimask_output="false",
                                     return_logits="false", **prompts[0])
        self.assertEqual(status, 200, answer)
        masks = numpy.array(json.loads(answer["masks"]))
        self.assertEqual(masks.shape, (1, 80, 100))
        self.assertLessEqual(set(numpy.unique(masks)), {0, 1})

    def test_image_to_text(self) -> None:
        runner = self.runner("image-to-text", tiny_torch.blip)
        for prompt in ("", "a b c"):
            status, answer = runner.form("/image-to-text", "image", self.photo, prompt=prompt)
            self.assertEqual(status, 200, answer)
            self.assertIn(prompt, answer["text"])
            self.assertGreater(len(answer["text"]), len(prompt))


if __name__ == "__main__":
    unittest.main()
