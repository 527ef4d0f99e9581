"""The live runner as its callers see it: health, the start of a session, what sessions were like.

One thread lives as long as the process: it loads the network, keeps a decoder ready for the next session, and runs
the sessions, one at a time.
"""

from __future__ import annotations

import collections
import logging
import threading
from pathlib import Path
from typing import Any

from .. import manifest, style
from ..deadline import Deadline
from ..errors import BadRequest, Unavailable
from ..service import Health
from . import trickle
from .decoder import Decoder
from .session import Params, Request, Session

log = logging.getLogger(__name__)

PIPELINE = "live-video-to-video"
# Pixels of a frame that is painted, on the processor and on a card; larger ones are made smaller.
CPU_PIXELS = 320 * 180
CUDA_PIXELS = 1280 * 720
# Sessions whose numbers are kept.
REMEMBERED = 16
CHANNELS = ("subscribe_url", "publish_url", "control_url", "events_url")


class LiveService:
    def __init__(self, model: manifest.Model, models_dir: Path, device: str = "auto", threads: int = 0,
                 pixels: int = 0) -> None:
        self.model = model
        self._models_dir, self._device, self._threads, self._pixels = models_dir, device, threads, pixels
        self._changed = threading.Condition()
        self._health = Health.LOADING
        self._request: Request | None = None
        self._session: Session | None = None
        self._past: collections.deque[dict] = collections.deque(maxlen=REMEMBERED)
        self._ends = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def pipeline(self) -> str:
        return self.model.pipeline

    @property
    def model_id(self) -> str:
        return self.model.model_id

    @property
    def health(self) -> Health:
        """IDLE without a session, OK with one."""
        return self._health

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ends the session in hand."""
        with self._changed:
            self._ends = True
            session = self._session
            self._changed.notify_all()
        if session is not None:
            session.stop()
        self._thread.join(timeout=10)

    def check_model(self, model_id: str) -> None:
        if model_id not in ("", self.model_id):
            raise BadRequest(f"pipeline configured with {self.model_id} but called with {model_id}.")

    def begin(self, given: dict[str, Any]) -> dict:
        """A session from now on; 503 while there is another."""
        urls = []
        for field in CHANNELS:
            url = given.get(field) or ""
            if not isinstance(url, str) or not url and field in CHANNELS[:2]:
                raise BadRequest(f"{field} must be a URL")
            try:
                if url:
                    trickle.Subscriber(url)
            except trickle.BadUrl as err:
                raise BadRequest(f"{field}: {err}") from None
            urls.append(url)
        name = given.get("manifest_id") or given.get("gateway_request_id") or ""
        request = Request(*urls, params=Params.of(given.get("params")), name=str(name)[:64])
        with self._changed:
            if self._health != Health.IDLE:
                raise Unavailable({Health.LOADING: "the model is loading",
                                   Health.ERROR: "the model failed to load"}.get(self._health, "runner is busy"))
            self._health, self._request = Health.OK, request
            self._changed.notify_all()
        return {}

    def stats(self) -> dict:
        """What is measured of the session in hand, and of the newest that ended."""
        with self._changed:
            session, past = self._session, list(self._past)
        return {"session": session.shown() if session else None, "ended": past}

    def _serve(self) -> None:
        try:
            painter = style.Painter(self.model.check(self._models_dir), self._device, self._threads)
            pixels = self._pixels or (CUDA_PIXELS if painter.device == "cuda" else CPU_PIXELS)
            _warm_up(painter)
            while self._serve_one(painter, pixels):
                pass
        except Exception:  # whatever went wrong, the state must say so
            self._health = Health.ERROR
            log.exception("model %s cannot be loaded", self.model_id)

    def _serve_one(self, painter: style.Painter, pixels: int) -> bool:
        """A decoder, then a session with it. False when there shall be no more."""
        decoder = Decoder(pixels)
        try:
            with self._changed:
                self._health = Health.IDLE
                if not self._past:
                    log.info("model %s ready on %s", self.model_id, painter.device)
                self._changed.wait_for(lambda: self._request is not None or self._ends)
                if self._ends:
                    return False
                request, self._request = self._request, None
                session = self._session = Session(self.pipeline, request, painter, decoder)
            log.info("session %s begins", request.name)
            try:
                session.run()
            except Exception:
                log.exception("session %s", request.name)
            shown = session.shown()
            log.info("session %s has ended: %s", request.name, shown)
            with self._changed:
                self._session = None
                self._past.append(shown)
        finally:
            decoder.kill()
        return True


def _warm_up(painter: style.Painter) -> None:
    """The first frame of the first session does not pay for the network's start."""
    import av  # noqa: F401  (the encoder's)
    import numpy

    painter.paint(numpy.zeros((180, 320, 3), numpy.uint8), style.weights("0"), 1.0, Deadline(60))
