"""text-to-speech: Kokoro-82M. The espeak-ng program says how English words sound; the network speaks it.

`description` picks a voice by its name; any other words mean nothing to it.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import wave
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import confine
from ..deadline import Deadline
from ..errors import InferenceFailed
from ..fields import Fields
from ..network import Network
from . import Job, Setup

if TYPE_CHECKING:
    import numpy

SAMPLE_RATE = 24_000
MAX_CHARS = 5_000
# Sounds that the network takes at once.
MOST_SOUNDS = 500
DEFAULT_VOICE = "jm_kumo"
PAUSES = ".,!?;:"
# espeak-ng's signs for sounds that the network knows by others.
RESPELLED = (("ɚ", "əɹ"), ("ʲ", "j"), ("r", "ɹ"), ("x", "k"), ("ɬ", "l"))
ESPEAK_S = 20
ESPEAK_MEMORY_BYTES = 512 << 20
# It makes a shared memory file for sound that it never plays.
ESPEAK_FILE_BYTES = 128 << 20


@dataclass(frozen=True)
class Params:
    text: str
    description: str


class TextToSpeech:
    name = "text-to-speech"
    file_field = None
    failed = "Text-to-speech pipeline error."

    @staticmethod
    def parse(fields: Fields) -> Params:
        return Params(fields.needed_text("text", MAX_CHARS), fields.text("description"))

    def __init__(self, setup: Setup) -> None:
        import numpy

        self._espeak = shutil.which("espeak-ng")
        if self._espeak is None:
            raise FileNotFoundError("the program espeak-ng is missing (Debian, Ubuntu: apt-get install espeak-ng)")
        self._known = json.loads((setup.directory / "vocab.json").read_text())["vocab"]
        # Arrays only: pickles are refused.
        with numpy.load(setup.directory / "voices.npz", allow_pickle=False) as voices:
            self._voices = {name: voices[name] for name in voices.files}
        self._network = Network(setup.directory / "kokoro.onnx", setup.device, setup.threads)
        self.device = self._network.device

    def run(self, job: Job) -> dict:
        import numpy

        params: Params = job.params
        named = re.findall(r"\w+", params.description)
        voice = next((word for word in named if word in self._voices), DEFAULT_VOICE)
        spoken = [self._speak(part, voice, job.deadline)
                  for part in portions(self._sounds(params.text, job.deadline)) if part.strip()]
        samples = numpy.concatenate(spoken) if spoken else numpy.zeros(0, numpy.float32)
        return {"audio": {"url": wav_url(samples)}}

    def _sounds(self, text: str, deadline: Deadline) -> str:
        """The text as signs that the network knows, its pauses kept."""
        spelled = []
        for piece in re.split(f"([{re.escape(PAUSES)}]+(?:\\s|$))", " ".join(text.split())):
            if piece.strip() and piece.strip()[0] in PAUSES:
                spelled.append(piece.strip()[0] + " ")
            elif piece.strip():
                spelled.append(self._ipa(piece, deadline))
        joined = "".join(spelled)
        for sign, other in RESPELLED:
            joined = joined.replace(sign, other)
        return "".join(sign for sign in joined if sign in self._known)

    def _ipa(self, text: str, deadline: Deadline) -> str:
        command = confine.wrap([self._espeak, "-q", "--ipa", "-v", "en-us", "--stdin"], cpu_s=ESPEAK_S,
                               memory_bytes=ESPEAK_MEMORY_BYTES, file_bytes=ESPEAK_FILE_BYTES)
        try:
            done = subprocess.run(command, input=text.encode(), capture_output=True,
                                  timeout=min(ESPEAK_S, deadline.remaining_s()), check=True)
        except (OSError, subprocess.SubprocessError) as err:
            raise InferenceFailed("the text cannot be spelled out") from err
        return " ".join(done.stdout.decode("utf-8", "replace").split())

    def _speak(self, sounds: str, voice: str, deadline: Deadline) -> numpy.ndarray:
        import numpy

        tokens = [0, *(self._known[sign] for sign in sounds), 0]
        style = self._voices[voice][len(sounds) - 1].reshape(1, 256)
        inputs = {"tokens": numpy.array([tokens], numpy.int64), "style": style, "speed": numpy.ones(1, numpy.float32)}
        return self._network.run(inputs, deadline)[0].reshape(-1)


def portions(sounds: str) -> list[str]:
    """Pieces that the network takes, cut after a pause, or at a space, or where there is neither."""
    found = []
    while len(sounds) > MOST_SOUNDS:
        head = sounds[:MOST_SOUNDS]
        at = max(head.rfind(sign) for sign in PAUSES) + 1 or head.rfind(" ") + 1 or MOST_SOUNDS
        found.append(sounds[:at])
        sounds = sounds[at:]
    return [*found, sounds]


def wav_url(samples: numpy.ndarray) -> str:
    import numpy

    target = io.BytesIO()
    with wave.open(target, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes((numpy.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return "data:audio/wav;base64," + base64.b64encode(target.getvalue()).decode()
