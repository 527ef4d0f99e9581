"""The real model on real speech, through the real process."""

from __future__ import annotations

import array
import math
import random
import tempfile
import threading
import unittest
import wave
from pathlib import Path

import media
from process import Runner


class Speech(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.runner = Runner()
        cls.folder = tempfile.TemporaryDirectory()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.folder.cleanup()
        status = cls.runner.close()
        assert status == 0, f"the runner ended with {status}"

    def test_word_error_rate_is_at_most_a_tenth(self) -> None:
        said_words = errors = 0
        for clip, said in media.librivox():
            status, answer = self.runner.transcribe(clip.read_bytes(), model_id="openai/whisper-tiny.en")
            self.assertEqual(status, 200, answer)
            said_words += len(media.words(said))
            errors += media.word_errors(media.words(said), media.words(answer["text"]))
        self.assertGreater(said_words, 60)
        self.assertLessEqual(errors / said_words, 0.10)

    def test_timestamps_rise_and_stay_inside_the_sound(self) -> None:
        clip, said = media.librivox()[0]
        with wave.open(str(clip)) as sound:
            duration_s = sound.getnframes() / sound.getframerate()
        for mode, least in (("true", 1), ("word", len(media.words(said)) - 3)):
            status, answer = self.runner.transcribe(clip.read_bytes(), return_timestamps=mode)
            self.assertEqual(status, 200, answer)
            self.assertGreaterEqual(len(answer["chunks"]), least)
            moments = [moment for chunk in answer["chunks"] for moment in chunk["timestamp"]]
            self.assertEqual(moments, sorted(moments))
            self.assertGreaterEqual(moments[0], 0)
            self.assertLessEqual(moments[-1], duration_s + 0.005)
            self.assertEqual("".join(chunk["text"] for chunk in answer["chunks"]).strip(), answer["text"])

    def test_without_timestamps_there_are_no_chunks(self) -> None:
        clip, _ = media.librivox()[1]
        status, answer = self.runner.transcribe(clip.read_bytes(), return_timestamps="false")
        self.assertEqual((status, answer["chunks"]), (200, []))
        self.assertIn("young man", answer["text"])

    def test_silence_gives_empty_text(self) -> None:
        silence = media.write_wav(Path(self.folder.name) / "silence.wav", bytes(2 * 16_000 * 5))
        status, answer = self.runner.transcribe(silence.read_bytes())
        self.assertEqual((status, answer), (200, {"text": "", "chunks": []}))

    def test_music_and_noise_give_empty_text(self) -> None:
        chord = [sum(math.sin(2 * math.pi * tone * t / 16_000) for tone in (220, 277.2, 329.6)) / 3
                 for t in range(16_000 * 5)]
        dice = random.Random(7)
        noise = [dice.uniform(-1, 1) for _ in range(16_000 * 5)]
        for name, samples in (("chord", chord), ("noise", noise)):
            frames = array.array("h", [int(sample * 12_000) for sample in samples]).tobytes()
            sound = media.write_wav(Path(self.folder.name) / f"{name}.wav", frames).read_bytes()
            self.assertEqual(self.runner.transcribe(sound), (200, {"text": "", "chunks": []}), name)

    def test_the_sound_of_a_film_is_decoded(self) -> None:
        # H.264 and 5.1 AAC in MP4: some hum is heard in it, so only the decoding is checked.
        status, answer = self.runner.transcribe((media.media_dir() / "bigbuckbunny.mp4").read_bytes())
        self.assertEqual((status, set(answer)), (200, {"text", "chunks"}), answer)

    def test_a_second_job_at_once_is_told_to_go_elsewhere(self) -> None:
        frames = b""
        for clip, _ in media.librivox():
            with wave.open(str(clip)) as sound:
                frames += sound.readframes(sound.getnframes())
        long = media.write_wav(Path(self.folder.name) / "long.wav", frames * 6).read_bytes()
        first: list[int] = []
        job = threading.Thread(target=lambda: first.append(self.runner.transcribe(long)[0]))
        job.start()
        seen = set()
        quick = media.write_wav(Path(self.folder.name) / "quick.wav", bytes(3200)).read_bytes()
        while job.is_alive():
            seen.add(self.runner.transcribe(quick)[0])
        job.join()
        # Whichever came first ran; while it ran, another was refused.
        self.assertIn(503, seen | set(first))
        self.assertLessEqual(seen | set(first), {200, 503})
        self.assertEqual(self.runner.transcribe(quick)[0], 200)


if __name__ == "__main__":
    unittest.main()
