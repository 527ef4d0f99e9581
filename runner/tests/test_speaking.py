"""Speech from text: Kokoro speaks, Whisper listens. Runs where the model is installed (`install.py --with
text-to-speech`, and the espeak-ng program); the pieces are tested everywhere."""

from __future__ import annotations

import base64
import shutil
import unittest

import media
from process import Runner

from penstock_runner.pipelines import text_to_speech

MODEL = "hexgrad/Kokoro-82M-int8"
INSTALLED = (media.models_dir() / "text-to-speech" / MODEL.replace("/", "--")).is_dir() and shutil.which("espeak-ng")
SENTENCE = ("The river was quiet in the morning, and the children walked slowly along the road. "
            "Nobody knew where the old house had been.")


class Portions(unittest.TestCase):
    def test_long_texts_are_cut_where_a_speaker_would_pause(self) -> None:
        self.assertEqual(text_to_speech.portions("a b."), ["a b."])
        long = "word " * 90 + "end. " + "more " * 200 + "x" * 1200
        pieces = text_to_speech.portions(long)
        self.assertEqual("".join(pieces), long)
        self.assertTrue(all(0 < len(piece) <= text_to_speech.MOST_SOUNDS for piece in pieces))
        self.assertTrue(pieces[0].endswith("end."))


@unittest.skipUnless(INSTALLED, f"{MODEL} is not installed: python runner/install.py … --with text-to-speech")
class Speaking(unittest.TestCase):
    def test_what_is_spoken_is_understood(self) -> None:
        speaker = Runner("--pipeline", "text-to-speech", "--model-id", MODEL)
        listener = Runner()
        try:
            status, answer = speaker.json("/text-to-speech", text=SENTENCE, model_id=MODEL, description="A calm man")
            self.assertEqual(status, 200, answer)
            kind, _, data = answer["audio"]["url"].partition(",")
            self.assertEqual(kind, "data:audio/wav;base64")
            status, heard = listener.transcribe(base64.b64decode(data))
            self.assertEqual(status, 200, heard)
            said = media.words(SENTENCE)
            self.assertLessEqual(media.word_errors(said, media.words(heard["text"])) / len(said), 0.25, heard["text"])
            status, other = speaker.json("/text-to-speech", text="Good morning.", description="jf_alpha")
            self.assertEqual(status, 200, other)
            for wrong in ({"text": " "}, {}, {"text": 7}, {"text": "x" * 6000}):
                self.assertEqual(speaker.json("/text-to-speech", **wrong)[0], 400)
            status, silent = speaker.json("/text-to-speech", text="...")
            self.assertEqual(status, 200, silent)
        finally:
            speaker.close()
            listener.close()


if __name__ == "__main__":
    unittest.main()
