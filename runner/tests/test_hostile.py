"""Sound files that were made to do harm, through the decoder that uploads go through: no other file is read,
nobody is called, and what comes out is bounded."""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

from penstock_runner import audio
from penstock_runner.errors import BadRequest, UnsupportedMedia

LIMITS = audio.DecodeLimits(duration_s=5, wall_s=60)


def ffmpeg(*words: str) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *words], check=True)


def careless(*words: str) -> bool:
    """Whether ffmpeg makes something of it when it may do what it likes."""
    done = subprocess.run(["ffmpeg", "-nostdin", "-v", "quiet", *words, "-f", "null", "-"], check=False)
    return done.returncode == 0


def wav(channels: int, rate: int, per_second: int, bits: int, said: int) -> bytes:
    head = struct.pack("<HHIIHH", 1, channels, rate, per_second, channels * (bits // 8) & 0xFFFF, bits)
    return (b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + head + b"data" + struct.pack("<I", said) + bytes(4000))


class Hostile(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.secret = self.folder / "secret.wav"
        ffmpeg("-f", "lavfi", "-i", "sine=duration=1", str(self.secret))
        self.trap = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.trap.close)
        self.trap.setblocking(False)

    def reached(self) -> bool:
        try:
            self.trap.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def decode(self, data: bytes):
        path = self.folder / "upload"
        path.write_bytes(data)
        return audio.decode(path, LIMITS)

    def test_what_names_other_files_is_refused(self) -> None:
        host = "http://127.0.0.1:%d/a.wav" % self.trap.getsockname()[1]
        playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n%s\n#EXT-X-ENDLIST\n"
        for text in (playlist % f"file://{self.secret}", playlist % host,
                     f"ffconcat version 1.0\nfile '{self.secret}'\n", f"ffconcat version 1.0\nfile '{host}'\n",
                     f"v=0\nc=IN IP4 127.0.0.1\nm=audio {self.trap.getsockname()[1]} RTP/AVP 0\n",
                     f"[playlist]\nFile1={host}\n", f"1\n00:00:00,000 --> 00:00:01,000\nfile://{self.secret}\n"):
            with self.assertRaises(UnsupportedMedia, msg=text):
                self.decode(text.encode())
        # It would be read by whoever lets it: the script is what it seems.
        script = self.folder / "script"
        script.write_text(f"ffconcat version 1.0\nfile '{self.secret}'\n")
        self.assertTrue(careless("-safe", "0", "-f", "concat", "-i", str(script)))
        self.assertFalse(self.reached())

    def test_headers_beyond_reason_give_a_bounded_answer(self) -> None:
        top = 0xFFFFFFFF
        for data in (wav(0, 8000, 16000, 16, 4000), wav(65535, 8000, top, 16, 4000), wav(1, 0, 0, 16, 4000),
                     wav(1, top, top, 16, 4000), wav(1, 8000, 0, 0, 4000), wav(1, 8000, 1, 16, top),
                     wav(1, 1, 2, 16, top)):
            try:
                samples = self.decode(data)
            except (UnsupportedMedia, BadRequest):
                continue
            self.assertLessEqual(len(samples), LIMITS.duration_s * audio.SAMPLE_RATE)

    def test_damaged_files_are_decoded_or_refused(self) -> None:
        sound = self.folder / "sound.m4a"
        ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", str(sound))
        whole, chance = sound.read_bytes(), random.Random(7)
        outcomes = set()
        for _ in range(24):
            data = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.3 else whole)
            for _ in range(chance.randrange(64)):
                if data:
                    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            try:
                self.assertLessEqual(len(self.decode(bytes(data))), LIMITS.duration_s * audio.SAMPLE_RATE)
                outcomes.add("decoded")
            except (UnsupportedMedia, BadRequest):
                outcomes.add("refused")
        self.assertEqual(outcomes, {"decoded", "refused"})


if __name__ == "__main__":
    unittest.main()
