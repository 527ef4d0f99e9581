"""segment-anything-2's stand-in: masks that obey points and boxes on real photographs, in SAM 2's form."""

from __future__ import annotations

import json
import unittest

import media
import numpy
import pictures
from PIL import Image
from test_pictures import PictureTest

# Where things are in the photographs, in parts of their size: left, top, right, bottom.
FACE = (0.27, 0.02, 0.58, 0.38)


class GrabCut(PictureTest):
    pipeline = "segment-anything-2"
    model = "stand-in/grabcut"

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.astronaut = pictures.png(pictures.shrunk(media.picture("astronaut.png"), 200, 160))
        cls.disc = pictures.png(disc())

    def masks(self, picture: bytes, **fields: str) -> tuple[numpy.ndarray, list[float], numpy.ndarray]:
        answer = self.done(picture, **fields)
        self.assertEqual(set(answer), {"masks", "scores", "logits"})
        masks, scores, logits = (numpy.array(json.loads(answer[name])) for name in ("masks", "scores", "logits"))
        self.assertEqual(len(masks), len(scores))
        self.assertEqual(logits.shape, (len(masks), 256, 256))
        self.assertEqual(sorted(scores, reverse=True), scores.tolist())
        return masks, scores.tolist(), logits

    def test_a_click_finds_what_it_is_on(self) -> None:
        masks, scores, logits = self.masks(self.disc, point_coords="[[60, 40]]", point_labels="[1]", model_id=self.model)
        self.assertEqual(masks.shape, (3, 80, 120))
        self.assertTrue(0.9 <= scores[0] <= 1, scores)
        truth = numpy.asarray(disc().convert("RGB"))[:, :, 0] > 150
        self.assertGreater(overlap(masks[0] > 0, truth), 0.95)
        # The same mask, small.
        small = numpy.asarray(Image.fromarray(truth).resize((256, 256)))
        self.assertGreater(overlap(logits[0] > 0, small), 0.9)

    def test_a_box_around_a_face_holds_the_face(self) -> None:
        left, top, right, bottom = (part * side for part, side in zip(FACE, (200, 160, 200, 160)))
        masks, _, _ = self.masks(self.astronaut, box=json.dumps([left, top, right, bottom]), multimask_output="false",
                                 return_logits="false")
        self.assertEqual(masks.shape, (1, 160, 200))
        self.assertEqual(set(numpy.unique(masks)), {0, 1})
        rows, columns = numpy.nonzero(masks[0])
        self.assertTrue(left - 1 <= columns.min() and columns.max() <= right + 1 and top - 1 <= rows.min()
                        and rows.max() <= bottom + 1, "it leaves the box")
        # Her nose, and the wall above her hair.
        self.assertEqual((masks[0, 37, 86], masks[0, 6, 57]), (1, 0))

    def test_a_point_that_does_not_belong_and_parts_of_the_size(self) -> None:
        with_it, _, _ = self.masks(self.disc, point_coords="[[0.5, 0.5]]", point_labels="[1]", normalize_coords="false",
                                   multimask_output="false")
        self.assertGreater(with_it[0, 40, 60], 0)
        without, _, _ = self.masks(self.disc, point_coords="[[10, 10], [60, 40]]", point_labels="[1, 0]",
                                   multimask_output="false")
        self.assertEqual((without[0, 10, 10] > 0, without[0, 40, 60] > 0), (True, False))

    def test_an_earlier_mask_is_a_hint_and_no_hint_takes_the_middle(self) -> None:
        first, _, logits = self.masks(self.disc, point_coords="[[60, 40]]", point_labels="[1]", multimask_output="false")
        again, _, _ = self.masks(self.disc, mask_input=json.dumps(logits.tolist()), multimask_output="false")
        self.assertGreater(overlap(first[0] > 0, again[0] > 0), 0.95)
        middle, _, _ = self.masks(self.disc, multimask_output="false", point_coords="", point_labels="", box="null")
        self.assertGreater(middle[0, 40, 60], 0)

    def test_the_same_request_gives_the_same_answer(self) -> None:
        fields = {"point_coords": "[[94, 35]]", "point_labels": "[1]"}
        self.assertEqual(self.done(self.astronaut, **fields), self.done(self.astronaut, **fields))

    def test_wrong_prompts_are_refused(self) -> None:
        one = {"point_labels": "[1]"}
        wrong = [({"point_coords": "[[121, 5]]", **one}, "outside"), ({"point_coords": "[[-1, 5]]", **one}, "outside"),
                 ({"point_coords": "[[1e308, 5]]", **one}, "outside"), ({"point_coords": "[[1e999, 5]]", **one}, "numbers"),
                 ({"point_coords": "[[NaN, 5]]", **one}, "numbers"), ({"point_coords": '[["1", 5]]', **one}, "numbers"),
                 ({"point_coords": "[[true, 5]]", **one}, "numbers"), ({"point_coords": "[[1, 2, 3]]", **one}, "[x, y]"),
                 ({"point_coords": f"[[1, {'9' * 400}]]", **one}, "numbers"), ({"point_coords": "{}", **one}, "numbers"),
                 ({"point_coords": "[1, 2", **one}, "not JSON"), ({"point_coords": "[" * 50_000, **one}, "not JSON"),
                 ({"point_coords": json.dumps([[1, 1]] * 257), "point_labels": json.dumps([1] * 257)}, "256 points"),
                 ({"point_coords": "[[1, 1]]"}, "point_labels"), ({"point_coords": "[[1, 1]]", "point_labels": "[2]"}, "point_labels"),
                 ({"point_coords": "[[1, 1]]", "point_labels": "[1, 1]"}, "point_labels"),
                 ({"box": "[5, 5, 4, 9]"}, "box"), ({"box": "[1, 2, 3]"}, "box"), ({"box": "[0, 0, 121, 5]"}, "outside"),
                 ({"mask_input": "[[1, 2]]"}, "256"), ({"mask_input": "[[1, 2], [3]]"}, "256"),
                 ({"multimask_output": "maybe"}, "true or false"), ({"model_id": "facebook/sam2-hiera-large"}, "but called with")]
        for fields, said in wrong:
            with self.subTest(fields=str(fields)[:80]):
                self.refused(400, said, self.post(self.disc, **fields))

    def test_wrong_pictures_are_refused(self) -> None:
        self.refused(400, "at most 2073600", self.post(pictures.bomb(30_000, 30_000)))
        self.refused(400, "at least 8 a side", self.post(pictures.png(Image.new("RGB", (7, 90)))))
        self.refused(415, "Unsupported image format", self.post(b"no picture"))
        # Nothing to tell apart.
        self.masks(pictures.png(Image.new("RGB", (8, 8))), point_coords="[[8, 8]]", point_labels="[1]")
        self.masks(pictures.png(Image.new("RGB", (300, 8))), box="[0, 0, 300, 8]")

    def test_the_card_says_what_it_is(self) -> None:
        _, version = self.runner.call("GET", "/version")
        self.assertIn("Not SAM", version["card"])


ISNET = "stand-in/isnet-grabcut"


@unittest.skipUnless((media.models_dir() / "segment-anything-2" / ISNET.replace("/", "--")).is_dir(),
                     f"{ISNET} is not installed: python runner/install.py … --with segment-anything-2/{ISNET}")
class WhatStandsOut(PictureTest):
    pipeline = "segment-anything-2"
    model = ISNET

    def test_a_click_on_a_cup_finds_cup_and_saucer(self) -> None:
        answer = self.done(pictures.png(pictures.shrunk(media.picture("coffee.png"), 300, 200)), point_coords="[[145, 75]]",
                           point_labels="[1]", multimask_output="false")
        [mask] = numpy.array(json.loads(answer["masks"])) > 0
        # The coffee, the saucer to the left, to the right and below; the table to the left and above.
        self.assertTrue(all(mask[y, x] for x, y in ((145, 75), (55, 105), (225, 110), (135, 175))))
        self.assertFalse(any(mask[y, x] for x, y in ((10, 60), (30, 190), (280, 30), (290, 180))))


def disc() -> Image.Image:
    """An orange disc on a blue that is not quite even."""
    across, down = numpy.meshgrid(numpy.arange(120), numpy.arange(80))
    noise = numpy.random.default_rng(1).integers(0, 12, (80, 120))
    inside = (across - 60) ** 2 + (down - 40) ** 2 < 20 ** 2
    pixels = numpy.where(inside[..., None], [230, 120, 20], [20, 60, 130]) + noise[..., None]
    return Image.fromarray(pixels.astype(numpy.uint8))


def overlap(one: numpy.ndarray, other: numpy.ndarray) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())


if __name__ == "__main__":
    unittest.main()
