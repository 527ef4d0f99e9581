"""The HTTP interface: states, refusals and limits, against real processes."""

from __future__ import annotations

import re
import tempfile
import unittest
from pathlib import Path

import media
from process import Runner

MODEL = "openai/whisper-tiny.en"


class Interface(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.runner = Runner("--max-audio-s", "2", token="hunter2")
        cls.folder = tempfile.TemporaryDirectory()
        cls.silence = media.write_wav(Path(cls.folder.name) / "s.wav", bytes(2 * 16_000)).read_bytes()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.folder.cleanup()
        cls.runner.close()

    def refused(self, status: int, text: str, got: tuple[int, dict]) -> None:
        self.assertEqual(got[0], status, got)
        self.assertIn(text, got[1]["detail"]["msg"])

    def test_health_version_and_hardware(self) -> None:
        self.assertEqual(self.runner.call("GET", "/health", headers={"Authorization": "none"}),
                         (200, {"status": "OK"}))
        status, version = self.runner.call("GET", "/version")
        self.assertEqual((status, version["pipeline"], version["model_id"]), (200, "audio-to-text", MODEL))
        for path, key in (("/hardware/info", "gpu_info"), ("/hardware/stats", "gpu_stats")):
            status, answer = self.runner.call("GET", path)
            self.assertEqual((status, answer["model_id"], type(answer[key])), (200, MODEL, dict))

    def test_the_token_is_asked_for(self) -> None:
        for header in ("", "Bearer hunter", "Bearer hunter22", "hunter2"):
            got = self.runner.call("GET", "/version", headers={"Authorization": header})
            self.refused(401, "Invalid bearer token.", got)

    def test_wrong_parameters(self) -> None:
        self.refused(400, f"configured with {MODEL} but called with other/model",
                     self.runner.transcribe(self.silence, model_id="other/model"))
        self.refused(400, "Must be 'true', 'false', or 'word'",
                     self.runner.transcribe(self.silence, return_timestamps="maybe"))
        self.assertEqual(self.runner.transcribe(self.silence, model_id="")[0], 200)

    def test_an_answer_says_what_it_took(self) -> None:
        self.assertEqual(self.runner.transcribe(self.silence)[0], 200)
        found = re.fullmatch(r"read;dur=(\d+\.\d+), work;dur=(\d+\.\d+)", self.runner.timing)
        self.assertIsNotNone(found, self.runner.timing)
        self.assertGreater(float(found.group(2)), 1, "milliseconds of work")
        self.runner.call("GET", "/health")
        self.assertIsNone(self.runner.timing)

    def test_bodies_that_are_no_form(self) -> None:
        self.refused(400, "audio must be a file", self.runner.call("POST", "/audio-to-text", b"audio"))
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        self.refused(400, "", self.runner.call("POST", "/audio-to-text", b"\xff\x00 not a part", kind))
        self.refused(400, "", self.runner.call("POST", "/audio-to-text", b"", {"Content-Type": "multipart/form-data"}))

    def test_files_that_are_no_audio(self) -> None:
        for junk in (b"", b"\x00" * 4096, b"hello", self.silence[:20]):
            self.refused(415, "Unsupported audio format or malformed file", self.runner.transcribe(junk))

    def test_a_playlist_cannot_point_at_another_file(self) -> None:
        clip, _ = media.librivox()[1]
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:3.0,\n{clip}\n#EXT-X-ENDLIST\n"
        self.refused(415, "Unsupported", self.runner.transcribe(playlist.encode()))
        self.refused(415, "Unsupported", self.runner.transcribe(f"ffconcat version 1.0\nfile {clip}\n".encode()))

    def test_audio_that_is_too_long(self) -> None:
        clip, _ = media.librivox()[0]
        self.refused(400, "audio is longer than 2 s", self.runner.transcribe(clip.read_bytes()))

    def test_bodies_that_are_too_large(self) -> None:
        big = bytes(51 << 20)
        self.refused(413, "max file size is 50MB", self.runner.transcribe(big))
        # The same without an announced length.
        chunks = iter([b"--x\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"a\"\r\n\r\n",
                       *(bytes(1 << 20) for _ in range(52))])
        try:
            got = self.runner.call("POST", "/audio-to-text", chunks,
                                   {"Content-Type": "multipart/form-data; boundary=x"})
        except (BrokenPipeError, ConnectionResetError):
            # It may also hang up while we still send.
            pass
        else:
            self.refused(413, "max file size is 50MB", got)
        self.assertEqual(self.runner.transcribe(self.silence)[0], 200)

    def test_unknown_paths_and_methods(self) -> None:
        self.refused(404, "Not Found", self.runner.call("GET", "/text-to-image"))
        self.refused(405, "Method Not Allowed", self.runner.call("GET", "/audio-to-text"))


class BrokenModel(unittest.TestCase):
    def test_a_wrong_file_is_never_loaded(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            wrong = Path(folder) / "audio-to-text" / MODEL.replace("/", "--")
            wrong.mkdir(parents=True)
            right = media.models_dir() / "audio-to-text" / MODEL.replace("/", "--")
            for file in right.iterdir():
                (wrong / file.name).write_bytes(file.read_bytes())
            (wrong / "vocabulary.txt").write_text("not the vocabulary")
            runner = Runner(models=Path(folder))
            try:
                self.assertEqual(runner.call("GET", "/health"), (200, {"status": "ERROR"}))
                status, answer = runner.transcribe(b"RIFF")
                self.assertEqual((status, answer["detail"]["msg"]), (503, "the model failed to load"))
            finally:
                runner.close()


if __name__ == "__main__":
    unittest.main()
