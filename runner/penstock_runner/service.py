"""What the runner is, apart from HTTP: one model, its loading state, and how many jobs it takes at once."""

from __future__ import annotations

import enum
import logging
import threading
from pathlib import Path

from . import audio, manifest
from .capacity import Capacity
from .errors import BadRequest, InferenceFailed, RunnerError, Unavailable
from .transcribe import Transcriber, parse_timestamp_mode

log = logging.getLogger(__name__)


class Health(enum.StrEnum):
    """ai-runner's states. A batch runner with its model loaded is OK, busy or not: IDLE belongs to live
    pipelines, and a node that saw IDLE would take a borrowed runner back."""

    OK = "OK"
    IDLE = "IDLE"
    LOADING = "LOADING"
    ERROR = "ERROR"


class AudioToText:
    """The audio-to-text service. Loads in the background; refuses jobs until it has."""

    pipeline = "audio-to-text"

    def __init__(self, model: manifest.Model, models_dir: Path, device: str = "auto", threads: int = 0,
                 slots: int = 1, limits: audio.DecodeLimits = audio.DecodeLimits(),
                 ffmpeg: str = "ffmpeg") -> None:
        self.model_id = model.model_id
        self.health = Health.LOADING
        self.limits = limits
        self._ffmpeg = ffmpeg
        self._capacity = Capacity(slots)
        self._transcriber: Transcriber | None = None
        self._loader = threading.Thread(target=self._load, args=(model, models_dir, device, threads), daemon=True)

    def start(self) -> None:
        self._loader.start()

    def wait_loaded(self) -> None:
        self._loader.join()

    def _load(self, model: manifest.Model, models_dir: Path, device: str, threads: int) -> None:
        try:
            self._transcriber = Transcriber(model.check(models_dir), device, threads)
            self.health = Health.OK
            log.info("model %s ready on %s", model.model_id, self._transcriber.device)
        except Exception:  # whatever went wrong, the state must say so
            # First: whoever reads the line may ask at once.
            self.health = Health.ERROR
            log.exception("model %s cannot be loaded", model.model_id)

    def check_model(self, model_id: str) -> None:
        """An empty model id means the one that is loaded."""
        if model_id not in ("", self.model_id):
            raise BadRequest(f"pipeline configured with {self.model_id} but called with {model_id}.")

    def run(self, path: Path, timestamps: str) -> dict:
        """The transcript of the audio file at `path`."""
        mode = parse_timestamp_mode(timestamps)
        if self._transcriber is None:
            raise Unavailable("the model is loading" if self.health == Health.LOADING else "the model failed to load")
        with self._capacity.slot():
            samples = audio.decode(path, self.limits, self._ffmpeg)
            try:
                return self._transcriber.transcribe(samples, mode)
            except RunnerError:
                raise
            except Exception as err:
                log.exception("transcription failed")
                raise InferenceFailed("Audio-to-text pipeline error.") from err
