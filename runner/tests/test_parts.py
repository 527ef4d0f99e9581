"""Parts that need no process and no model: choices, fields, deadlines, places."""

from __future__ import annotations

import math
import tempfile
import unittest
from pathlib import Path

import media  # noqa: F401  (puts the package's folder in the path)
from penstock_runner import capacity, deadline, errors, manifest, network, pipelines, style, supplied
from penstock_runner.fields import Fields
from penstock_runner.live import service as live


class Providers(unittest.TestCase):
    """What a network runs on. The machine that runs these tests may have no card; the choice is pure."""

    BUILT_FOR_CUDA = [network.CUDA, network.CPU]

    def test_a_card_that_is_there_is_used_and_the_processor_comes_last(self) -> None:
        for device in ("auto", "cuda"):
            self.assertEqual(network.providers(device, self.BUILT_FOR_CUDA, True), [network.CUDA, network.CPU])

    def test_the_processor_otherwise(self) -> None:
        self.assertEqual(network.providers("auto", self.BUILT_FOR_CUDA, False), [network.CPU])
        self.assertEqual(network.providers("auto", [network.CPU], True), [network.CPU])
        self.assertEqual(network.providers("cpu", self.BUILT_FOR_CUDA, True), [network.CPU])

    def test_a_card_asked_for_by_name_is_not_replaced(self) -> None:
        with self.assertRaisesRegex(network.NoCuda, "onnxruntime-gpu"):
            network.providers("cuda", [network.CPU], True)
        # Whoever asks by name may know of a card that nvidia-smi does not show.
        self.assertEqual(network.providers("cuda", self.BUILT_FOR_CUDA, False), [network.CUDA, network.CPU])


class Styles(unittest.TestCase):
    def test_numbers_and_mixtures(self) -> None:
        self.assertEqual(style.weights("7")[7], 1)
        self.assertEqual(style.weights(" Style 25 ")[25], 1)
        mixed = style.weights("7:3, 19:1")
        self.assertEqual((mixed[7], mixed[19], math.fsum(mixed)), (0.75, 0.25, 1))

    def test_any_other_words_pick_one_style(self) -> None:
        for prompt in ("", "a kite", "26", "7, a kite", "7:0", "-1", "7:9999", "१"):
            found = style.weights(prompt)
            self.assertEqual((sorted(found)[-1], sum(found), len(found)), (1, 1, style.STYLES), prompt)
        self.assertEqual(style.weights("A kite "), style.weights("a kite"))


class FieldValues(unittest.TestCase):
    def test_numbers(self) -> None:
        fields = Fields({"a": "7", "b": 2.5, "c": "0.800000", "d": "", "e": True, "f": "1e999", "g": [], "h": "9" * 5000})
        self.assertEqual((fields.integer("a", 0, 0, 9), fields.number("b", 0, 0, 9), fields.number("c", 0, 0, 9),
                          fields.number("d", 3, 0, 9), fields.integer("none", 4, 0, 9)), (7, 2.5, 0.8, 3, 4))
        for name in "befgh":
            with self.assertRaises(errors.BadRequest):
                fields.integer(name, 0, 0, 9)
        self.assertEqual(Fields({"seed": str(2**63)}).seed(), 2**63)
        self.assertIsNone(Fields({"seed": ""}).seed())

    def test_text(self) -> None:
        fields = Fields({"a": 3, "b": "x" * 20_000, "c": " ", "d": "half a \ud83d"})
        for call in (lambda: fields.text("a"), lambda: fields.text("b"), lambda: fields.needed_text("c"),
                     lambda: fields.text("d")):
            with self.assertRaises(errors.BadRequest):
                call()


class Places(unittest.TestCase):
    def test_an_answer_in_pieces_keeps_its_place_until_it_is_closed(self) -> None:
        room = capacity.Capacity(1)
        with room.slot() as slot:
            pieces = slot.held_by(iter([{"n": 1}, {"n": 2}]), lambda: None)
        with self.assertRaises(errors.Unavailable), room.slot():
            pass
        self.assertEqual(next(iter(pieces)), {"n": 1})
        for _ in range(2):
            pieces.close()
        with room.slot(), self.assertRaises(errors.Unavailable), room.slot():
            pass
        with room.slot():
            pass


class Time(unittest.TestCase):
    def test_nothing_begins_after_the_deadline(self) -> None:
        over = deadline.Deadline(0)
        with self.assertRaisesRegex(errors.InferenceFailed, "longer than 0 s"):
            over.remaining_s()
        with self.assertRaises(errors.InferenceFailed), over.run_options():
            self.fail("it began")


    def test_a_caller_who_hung_up_stops_what_runs_and_what_would_come(self) -> None:
        job = deadline.Deadline(1000)
        with self.assertRaisesRegex(errors.InferenceFailed, "hung up"), job.run_options() as options:
            self.assertFalse(options.terminate)
            job.cancel()
            self.assertTrue(options.terminate)
            raise RuntimeError("as a network says that was told to stop")
        self.assertTrue(job.over())
        with self.assertRaisesRegex(errors.InferenceFailed, "hung up"):
            job.remaining_s()


class Registry(unittest.TestCase):
    def test_every_pipeline_can_be_had_and_says_what_it_takes(self) -> None:
        for pipeline, backend in pipelines.ALL:
            kind = pipelines.find(model(pipeline, backend))
            self.assertEqual(kind.name, pipeline)
            self.assertIn(kind.file_field, ("audio", "image", None))

    def test_every_model_of_the_manifest_and_every_folder_of_weights_has_one_that_serves_it(self) -> None:
        found = manifest.load()
        found += [model(pipeline, backend) for pipeline, known in supplied.BACKENDS.items() for backend, _ in known]
        for one in found:
            if one.pipeline != live.PIPELINE:
                self.assertEqual(pipelines.find(one).name, one.pipeline)
        with self.assertRaisesRegex(manifest.ManifestError, "nothing here serves dance"):
            pipelines.find(model("dance", "onnx"))


class Supplied(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.models = Path(folder.name)

    def test_a_folder_with_weights_is_a_model_and_says_whose_it_is(self) -> None:
        place = self.models / "llm" / "org--name"
        place.mkdir(parents=True)
        with self.assertRaisesRegex(manifest.ManifestError, "does not hold one .*gguf"):
            supplied.find("llm", "org/name", self.models)
        (place / "any.gguf").touch()
        for found in (supplied.find("llm", "org/name", self.models), supplied.find("llm", "x", Path("/none"), place)):
            self.assertEqual((found.backend, found.check(self.models)), ("llama.cpp", place))
            self.assertIn("not checked", found.card)
        (place / "more.gguf").touch()
        with self.assertRaises(manifest.ManifestError):
            supplied.find("llm", "org/name", self.models)

    def test_parts_of_one_file_begin_with_the_first(self) -> None:
        for number in (2, 1, 3):
            (self.models / f"m-0000{number}-of-00003.gguf").touch()
        self.assertEqual(supplied.gguf(self.models).name, "m-00001-of-00003.gguf")

    def test_names_that_are_none(self) -> None:
        for name in ("", ".", ".."):
            with self.assertRaisesRegex(manifest.ManifestError, "no model id"):
                supplied.find("llm", name, self.models)
        with self.assertRaisesRegex(manifest.ManifestError, "no model x for text-to-speech"):
            supplied.find("text-to-speech", "x", self.models)


def model(pipeline: str, backend: str) -> manifest.Model:
    return manifest.Model(pipeline, "m", backend, "l", "s", "c", False, (), ())


if __name__ == "__main__":
    unittest.main()
