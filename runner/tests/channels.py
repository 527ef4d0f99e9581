"""A stand-in for the orchestrator's trickle server: what a runner's client needs of it, and nothing more.

The real one and the real runner meet in the system tests; here a test holds both ends.
"""

from __future__ import annotations

import http.server
import threading

WAIT_S = 60


class Channel:
    def __init__(self) -> None:
        self.segments: list[bytearray] = []
        self.ended: list[bool] = []
        self.first = 0  # older ones are gone
        self.closed = False


class Channels:
    """Named channels behind a URL. `write` and `end` are a peer's side of the input."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.named: dict[str, Channel] = {}
        channels = self

        class Handler(_Handler):
            owner = channels

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        with self.changed:
            self.named[name] = Channel()
        return f"http://127.0.0.1:{self._server.server_port}/ai/trickle/{name}"

    def begin(self, name: str) -> None:
        with self.changed:
            self.named[name].segments.append(bytearray())
            self.named[name].ended.append(False)

    def write(self, name: str, data: bytes) -> None:
        with self.changed:
            self.named[name].segments[-1] += data
            self.changed.notify_all()

    def end(self, name: str) -> None:
        with self.changed:
            self.named[name].ended[-1] = True
            self.changed.notify_all()

    def send(self, name: str, data: bytes) -> None:
        self.begin(name)
        self.write(name, data)
        self.end(name)

    def close(self, name: str) -> None:
        with self.changed:
            self.named[name].closed = True
            self.changed.notify_all()

    def wait(self, what: str, done) -> None:
        """Until `done`, looked at whenever something happened here."""
        with self.changed:
            if not self.changed.wait_for(done, timeout=WAIT_S):
                raise AssertionError(f"waited in vain: {what}")

    def shut(self) -> None:
        with self.changed:
            for channel in self.named.values():
                channel.closed = True
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Channels

    def log_message(self, *_) -> None:
        pass

    def _channel(self) -> tuple[Channel | None, str]:
        name, _, index = self.path.removeprefix("/ai/trickle/").partition("/")
        channel = self.owner.named.get(name)
        return (None if channel is None or channel.closed else channel), index

    def _answer(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        if "Transfer_Encoding" not in headers:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        changed = self.owner.changed
        with changed:
            channel, index = self._channel()
            if channel is None:
                return self._answer(404)
            at = max(len(channel.segments) - 1, 0) if index == "-2" else int(index)
            if at < channel.first or at > len(channel.segments):
                return self._answer(470, Lp_Trickle_Latest=len(channel.segments), Lp_Trickle_Seq=index)
            changed.wait_for(lambda: channel.closed or len(channel.segments) > at and channel.segments[at], WAIT_S)
            if channel.closed and len(channel.segments) <= at:
                return self._answer(200, Lp_Trickle_Closed="terminated", Lp_Trickle_Seq=at)
            if len(channel.segments) <= at:  # whoever asked has hung up long ago
                self.close_connection = True
                return None
        self._answer(200, Lp_Trickle_Seq=at, Transfer_Encoding="chunked")
        sent = 0
        while True:
            with changed:
                changed.wait_for(lambda: channel.closed or channel.ended[at] or len(channel.segments[at]) > sent, WAIT_S)
                data, over = bytes(channel.segments[at][sent:]), channel.ended[at] or channel.closed
            if data:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                sent += len(data)
            elif over:
                self.wfile.write(b"0\r\n\r\n")
                return

    def do_POST(self) -> None:
        changed = self.owner.changed
        with changed:
            channel, index = self._channel()
            if channel is None:
                self.close_connection = True
                return self._answer(404, Connection="close")
            assert int(index) == len(channel.segments), "segments are numbered from 0"
            channel.segments.append(bytearray())
            channel.ended.append(False)
        while size := int(self.rfile.readline(), 16):
            data = self.rfile.read(size)
            self.rfile.readline()
            with changed:
                channel.segments[-1] += data
                changed.notify_all()
        self.rfile.readline()
        with changed:
            channel.ended[-1] = True
            changed.notify_all()
        self._answer(200, Lp_Trickle_Seq=index)

    def do_DELETE(self) -> None:
        with self.owner.changed:
            channel, _ = self._channel()
            if channel is not None:
                channel.closed = True
            self.owner.changed.notify_all()
        self._answer(200 if channel is not None else 400)
