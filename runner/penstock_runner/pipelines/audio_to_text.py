"""audio-to-text: Whisper on CTranslate2 through faster-whisper.

Voice activity detection goes before every transcription: without it Whisper hears words in music and noise.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from .. import audio
from ..deadline import Deadline
from ..errors import BadRequest
from ..fields import Fields
from . import Job, Setup

if TYPE_CHECKING:
    import numpy

log = logging.getLogger(__name__)

# What the form field `return_timestamps` may say, and what it means.
TIMESTAMP_MODES = ("true", "false", "word")


def parse_timestamp_mode(value: str) -> str:
    mode = value.strip().lower()
    if mode not in TIMESTAMP_MODES:
        raise BadRequest("Invalid return_timestamps value. Must be 'true', 'false', or 'word'.")
    return mode


class AudioToText:
    name = "audio-to-text"
    file_field = "audio"
    failed = "Audio-to-text pipeline error."

    @staticmethod
    def parse(fields: Fields) -> str:
        return parse_timestamp_mode(fields.text("return_timestamps") or "true")

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._transcriber = Transcriber(setup.directory, setup.device, setup.threads)
        self.device = self._transcriber.device

    def run(self, job: Job) -> dict:
        samples = audio.decode(job.file, self._setup.audio_limits, self._setup.ffmpeg)
        return self._transcriber.transcribe(samples, job.params, job.deadline)


class Transcriber:
    """One loaded model. Calls are safe from several threads; they run one after the other."""

    def __init__(self, directory: Path, device: str = "auto", threads: int = 0) -> None:
        self._lock = threading.Lock()
        self._model, self.device = _load(directory, device, threads)

    def transcribe(self, samples: numpy.ndarray, mode: str, deadline: Deadline) -> dict:
        """`{"text", "chunks": [{"timestamp": [from_s, to_s], "text"}]}`; chunks per sentence or per word."""
        if len(samples) == 0:
            return {"text": "", "chunks": []}
        with self._lock:
            found, _ = self._model.transcribe(
                samples, vad_filter=True, word_timestamps=mode == "word", without_timestamps=mode == "false",
                # A wrong guess in one window must not colour the next.
                condition_on_previous_text=False)
            segments = []
            # Each one is made when it is asked for.
            for segment in found:
                deadline.remaining_s()
                segments.append(segment)
        duration_s = len(samples) / 16_000
        return {"text": "".join(segment.text for segment in segments).strip(),
                "chunks": _chunks(segments, mode, duration_s)}


def _chunks(segments: list, mode: str, duration_s: float) -> list[dict]:
    if mode == "false":
        return []
    pieces = [(s.start, s.end, s.text) for s in segments]
    if mode == "word":
        pieces = [(w.start, w.end, w.word) for s in segments for w in s.words or ()]
    # The model may place an end a little past the sound; a caller may rely on it not doing so.
    return [{"timestamp": [_time(start, duration_s), _time(end, duration_s)], "text": text}
            for start, end, text in pieces]


def _time(seconds: float, duration_s: float) -> float:
    return round(min(float(seconds), duration_s), 2)


def _load(directory: Path, device: str, threads: int):
    """The model on the wanted device. `auto` takes CUDA when a card is there and works, else the CPU."""
    import ctranslate2
    from faster_whisper import WhisperModel

    def on(name: str, compute_type: str):
        model = WhisperModel(str(directory), device=name, compute_type=compute_type, cpu_threads=threads,
                             local_files_only=True)
        _warm_up(model)
        return model, name

    if device == "cuda" or (device == "auto" and ctranslate2.get_cuda_device_count() > 0):
        try:
            return on("cuda", "float16")
        except Exception as err:  # a missing cuBLAS or cuDNN shows only at the first run
            if device == "cuda":
                raise
            log.warning("CUDA is there but does not work (%s): using the CPU", err)
    return on("cpu", "int8")


def _warm_up(model) -> None:
    """One second of silence through the whole model: the first user does not pay for start-up."""
    import numpy

    list(model.transcribe(numpy.zeros(16_000, numpy.float32), vad_filter=False)[0])
