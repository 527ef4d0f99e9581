"""One session's life: who reads what, and what ends it.

Four threads beside the one that paints and publishes: the input's bytes to the decoder, its frames to a place for
one, control messages, events. A frame that comes while another waits replaces it: what is late is dropped and
counted, so nothing is held that a viewer no longer waits for. The session ends with its input or its output.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import style
from ..deadline import Deadline
from ..errors import BadRequest
from ..fields import Fields
from . import events, trickle
from .decoder import Decoder
from .encoder import Encoder, Times
from .frames import Frame, NotAFrame
from .numbers import Numbers

if TYPE_CHECKING:
    import numpy

log = logging.getLogger(__name__)

MEDIA, MESSAGES = "video/mp2t", "application/json"
MAX_MESSAGE_BYTES = 1 << 20
STATUS_S = 10.0
# One picture never takes so long.
FRAME_S = 30.0
# Events that wait to be sent; a gateway that does not read them loses the oldest interest in them anyway.
MOST_EVENTS = 64


@dataclass(frozen=True)
class Params:
    """What a prompt asks for, and the document it came in."""

    mixture: tuple[float, ...]
    strength: float
    given: dict[str, Any]

    @staticmethod
    def of(given: Any) -> Params:
        if given is None:
            given = {}
        if not isinstance(given, dict):
            raise BadRequest("params must be a JSON object")
        fields = Fields(given)
        return Params(tuple(style.weights(fields.text("prompt"))), fields.number("strength", 1.0, 0, 1), given)


@dataclass(frozen=True)
class Request:
    """The start of a session (live-video.md section 6): its channels, as the runner sees them."""

    subscribe_url: str
    publish_url: str
    control_url: str
    events_url: str
    params: Params
    name: str


class Latest:
    """A place for one frame. `put` says whether another one had to go."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._closed = False

    def put(self, frame: Frame) -> bool:
        with self._changed:
            late, self._frame = self._frame is not None, frame
            self._changed.notify()
            return late

    def take(self) -> Frame | None:
        """None when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._closed)
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()


class _Film:
    """What goes out: one encoder as long as the size stays, one segment after the other."""

    def __init__(self, output: trickle.Publisher) -> None:
        self._output = output
        self._encoder: Encoder | None = None
        self._begun = False

    def add(self, pixels: numpy.ndarray, time_s: float) -> None:
        size = (pixels.shape[1], pixels.shape[0])
        if self._encoder is not None and self._encoder.size != size:
            self._output.write(self._encoder.close())
            self._encoder = None
        if self._encoder is None:
            self._encoder = Encoder(*size)
        if self._encoder.cuts_before(time_s):
            self._cut()
            self._output.begin()
            self._begun = True
        self._output.write(self._encoder.encode(pixels, time_s))

    def end(self) -> None:
        if self._encoder is not None:
            self._output.write(self._encoder.close())
            self._encoder = None
        self._cut()

    def _cut(self) -> None:
        if self._begun:
            self._begun = False
            self._output.end()

    def abandon(self) -> None:
        """An encoder that is not closed would write its end when nobody listens any more."""
        if self._encoder is not None:
            self._encoder.close()
            self._encoder = None


class Session:
    """To be run once, by the thread that made the decoder."""

    def __init__(self, pipeline: str, request: Request, painter: style.Painter, decoder: Decoder) -> None:
        now_ms = _now_ms()
        self.request = request
        self.numbers = Numbers(time.monotonic())
        self.state = events.State(pipeline, now_ms, request.params.given, now_ms, now_ms)
        self._painter, self._decoder = painter, decoder
        self._params = request.params
        self._lock = threading.Lock()
        self._latest = Latest()
        self._input = trickle.Subscriber(request.subscribe_url)
        self._output = trickle.Publisher(request.publish_url, MEDIA)
        self._control = trickle.Subscriber(request.control_url) if request.control_url else None
        self._events = trickle.Publisher(request.events_url, MESSAGES) if request.events_url else None
        self._said: queue.Queue[dict | None] = queue.Queue(MOST_EVENTS)
        self._over = threading.Event()

    def shown(self) -> dict:
        with self._lock:
            return {"session": self.request.name, "state": self.state.name, "error": self.state.error,
                    **self.numbers.shown(time.monotonic())}

    def stop(self) -> None:
        """From any thread: it is over."""
        self._over.set()
        for channel in (self._input, self._control):
            if channel is not None:
                channel.stop()
        self._latest.close()

    def run(self) -> None:
        threads = [self._thread(self._feed), self._thread(self._collect)]
        if self._control is not None:
            threads.append(self._thread(self._listen))
        reporter = self._thread(self._report) if self._events is not None else None
        try:
            self._paint()
        except trickle.ChannelEnded:
            self._ended("the output's channel is closed")
        except trickle.ChannelFailed as err:
            self._fail(str(err))
        finally:
            self.stop()
            self._decoder.kill()
            for thread in threads:
                thread.join()
            with self._lock:
                self.state.name, self.state.changed_ms = "OFFLINE", _now_ms()
            if reporter is not None:
                self._say(None)
                reporter.join()
            self._output.close()

    def _thread(self, work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except trickle.ChannelEnded:
                self._ended("a channel is closed")
            except trickle.ChannelFailed as err:
                self._fail(str(err))
            except Exception:
                log.exception("session %s", self.request.name)
                self._fail("internal error")

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _ended(self, message: str) -> None:
        """A channel is closed. That is how an orchestrator ends a session; one that never took anything never began."""
        if self._output.taken:
            self.stop()
        else:
            self._fail(message)

    def _fail(self, message: str) -> None:
        """Ends the session, unless it is ending by itself."""
        if self._over.is_set():
            return
        log.warning("session %s: %s", self.request.name, message)
        with self._lock:
            self.state.error, self.state.error_ms = message, _now_ms()
        self._say(events.error(message, _now_ms()))
        self.stop()

    # The input's bytes.
    def _feed(self) -> None:
        try:
            for segment in self._input.segments():
                for piece in segment:
                    with self._lock:
                        self.numbers.input_began(time.monotonic())
                        self.state.last_input_ms = _now_ms()
                    if not self._decoder.feed(piece):
                        return
        finally:
            self._decoder.end_of_input()

    # The decoder's frames.
    def _collect(self) -> None:
        try:
            while (frame := self._decoder.next_frame()) is not None:
                late = self._latest.put(frame)
                with self._lock:
                    self.numbers.came_in(time.monotonic())
                    if late:
                        self.numbers.dropped()
            if not self._over.is_set() and self._decoder.failed():
                self._fail(f"the input cannot be decoded: {self._decoder.complaint()}")
        except NotAFrame as err:
            self._fail(f"the decoder gave no frame: {err}")
        finally:
            self._latest.close()

    def _paint(self) -> None:
        film = _Film(self._output)
        try:
            times = Times()
            while (frame := self._latest.take()) is not None:
                with self._lock:
                    params = self._params
                time_s = times.next(frame.time_s)
                film.add(self._painted(frame, params), time_s)
                with self._lock:
                    now_s = time.monotonic()
                    self.numbers.went_out(now_s, self._decoder.came_at(frame), time_s, params is self._params)
                    self.state.last_output_ms = _now_ms()
            film.end()
        finally:
            film.abandon()

    def _painted(self, frame: Frame, params: Params) -> numpy.ndarray:
        import numpy

        pixels = numpy.frombuffer(frame.data, numpy.uint8).reshape(frame.height, frame.width, 3)
        return self._painter.paint(pixels, params.mixture, params.strength, Deadline(FRAME_S))

    # Control messages.
    def _listen(self) -> None:
        for segment in self._control.segments():
            text = bytearray()
            for piece in segment:
                text += piece
                if len(text) > MAX_MESSAGE_BYTES:
                    break
            self._obey(bytes(text))

    def _obey(self, text: bytes) -> None:
        try:
            message = json.loads(text)
            if len(text) > MAX_MESSAGE_BYTES or not isinstance(message, dict):
                raise ValueError
        except (ValueError, RecursionError):
            return  # blank segments are usual
        if "keep" in message:
            return
        try:
            params = Params.of(message)
        except BadRequest as err:
            self._say(events.error(f"the parameters stay as they were: {err.message}", _now_ms()))
            return
        with self._lock:
            self._params = params
            self.state.params, self.state.params_ms = params.given, _now_ms()
            self.numbers.prompted(time.monotonic())
        self._say(events.params_update(params.given))

    # Events.
    def _say(self, event: dict | None) -> None:
        """None is the last one."""
        if self._events is None:
            return
        try:
            self._said.put_nowait(event)
        except queue.Full:
            if event is None:
                self._events.stop()

    def _report(self) -> None:
        while True:
            with self._lock:
                self.state.settle(_now_ms(), self.numbers)
                status = events.status(self.state, self.numbers, _now_ms(), time.monotonic())
            self._events.send(json.dumps(status).encode())
            until = time.monotonic() + STATUS_S
            while (left := until - time.monotonic()) > 0:
                try:
                    event = self._said.get(timeout=left)
                except queue.Empty:
                    break
                if event is None:
                    with self._lock:
                        status = events.status(self.state, self.numbers, _now_ms(), time.monotonic())
                    try:
                        self._events.send(json.dumps(status).encode())
                    except (trickle.ChannelEnded, trickle.ChannelFailed):
                        pass  # whose channels they were has closed them
                    self._events.close()
                    return
                self._events.send(json.dumps(event).encode())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
