"""What a batch runner is, apart from HTTP: one model, its loading state, and how many jobs it takes at once."""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import audio, manifest, pipelines
from .capacity import Capacity
from .deadline import Deadline
from .errors import BadRequest, InferenceFailed, RunnerError, Unavailable
from .fields import Fields

log = logging.getLogger(__name__)


class Health(enum.StrEnum):
    """ai-runner's states. A batch runner with its model loaded is OK, busy or not: IDLE belongs to live
    pipelines, and a node that saw IDLE would take a borrowed runner back."""

    OK = "OK"
    IDLE = "IDLE"
    LOADING = "LOADING"
    ERROR = "ERROR"


@dataclass(frozen=True)
class Settings:
    """What the command line says of a batch runner; pipelines.Setup has the meaning of most."""

    device: str = "auto"
    threads: int = 0
    slots: int = 1
    max_job_s: float = 600
    audio_limits: audio.DecodeLimits = audio.DecodeLimits()
    ffmpeg: str = "ffmpeg"
    context_tokens: int = 4096


class Service:
    """One batch pipeline with one model. Loads in the background; refuses jobs until it has."""

    def __init__(self, model: manifest.Model, models_dir: Path, settings: Settings = Settings()) -> None:
        self.model = model
        self.kind = pipelines.find(model)
        self.health = Health.LOADING
        self._max_job_s = settings.max_job_s
        self._capacity = Capacity(settings.slots)
        self._pipeline = None

        def load() -> None:
            setup = pipelines.Setup(model, model.check(models_dir), settings.device, settings.threads, settings.ffmpeg,
                                    settings.audio_limits, settings.slots, settings.context_tokens)
            self._pipeline = self.kind(setup)

        self._loader = threading.Thread(target=self._load, args=(load,), daemon=True)

    @property
    def pipeline(self) -> str:
        return self.model.pipeline

    @property
    def model_id(self) -> str:
        return self.model.model_id

    def start(self) -> None:
        self._loader.start()

    def close(self) -> None:
        """A batch job that runs is waited for by the HTTP server."""

    def _load(self, load) -> None:
        try:
            load()
            self.health = Health.OK
            log.info("model %s ready on %s", self.model_id, self._pipeline.device)
        except Exception:  # whatever went wrong, the state must say so
            # First: whoever reads the line may ask at once.
            self.health = Health.ERROR
            log.exception("model %s cannot be loaded", self.model_id)

    def check_model(self, model_id: str) -> None:
        """An empty model id means the one that is loaded."""
        if model_id not in ("", self.model_id):
            raise BadRequest(f"pipeline configured with {self.model_id} but called with {model_id}.")

    def deadline(self) -> Deadline:
        """How long a job that comes now may take."""
        return Deadline(self._max_job_s)

    def run(self, fields: Fields, deadline: Deadline, file: Path | None = None) -> dict | Iterator[dict]:
        """One job. An answer in pieces keeps its slot until it is exhausted or closed."""
        params = self.kind.parse(fields)
        if self._pipeline is None:
            raise Unavailable("the model is loading" if self.health == Health.LOADING else "the model failed to load")
        with self._capacity.slot() as slot:
            try:
                answer = self._pipeline.run(pipelines.Job(params, file, deadline))
            except InferenceFailed as err:
                log.warning("%s ended early: %s", self.pipeline, err)
                raise
            except RunnerError:
                raise
            except Exception as err:
                log.exception("%s failed", self.pipeline)
                raise InferenceFailed(self.kind.failed) from err
            if isinstance(answer, dict):
                return answer
            return slot.held_by(answer, deadline.cancel)
