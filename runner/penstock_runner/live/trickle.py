"""Client of the network's trickle channels (trickle.md sections 3, 4 and 9): blocking, one connection a channel.

Certificates are not checked, as no client of the network's does: orchestrators sign their own, and whoever
knows a channel's name may use it.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator

# A waiting GET is asked anew after so long; a POST must make progress within it.
WAIT_S = 20
# Connections that fail in a row end a channel; between them it waits for so long.
MOST_FAILURES = 5
PAUSE_S = 0.3
CHUNK = 64 * 1024
# The segment is gone from the window, or not there yet.
NO_SUCH_SEGMENT = 470
# The one most recently begun.
CURRENT = -2

_BROKEN = (OSError, http.client.HTTPException)


class ChannelEnded(Exception):
    """The channel is closed or was never there."""


class ChannelFailed(Exception):
    """The channel's server does not answer, or not as it should."""


class BadUrl(Exception):
    """Not a channel's URL."""


class _Channel:
    """A URL, a connection that is kept between requests, and a way to stop from another thread."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        try:
            port = parts.port
        except ValueError as err:
            raise BadUrl(str(err)) from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise BadUrl("a channel's URL must be http:// or https://, without a query")
        self.path = parts.path.rstrip("/")
        if any(ord(sign) <= 32 or ord(sign) == 127 for sign in self.path):
            raise BadUrl("a channel's URL has a space or a control character")
        self.stopped = threading.Event()
        if parts.scheme == "https":
            # Its only caller is told where channels are by whom it trusts.
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.connection = http.client.HTTPSConnection(parts.hostname, port, timeout=WAIT_S, context=context)
        else:
            self.connection = http.client.HTTPConnection(parts.hostname, port, timeout=WAIT_S)

    def connect(self) -> None:
        if self.connection.sock is None:
            self.connection.connect()
            self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def stop(self) -> None:
        """From any thread: what waits, ends."""
        self.stopped.set()
        sock = self.connection.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def drop(self) -> None:
        self.connection.close()

    def request(self, method: str, at: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        self.connect()
        self.connection.request(method, f"{self.path}{at}", headers=headers or {})
        return self.connection.getresponse()


class Subscriber:
    """A channel's segments, one after the other. Whoever falls too far behind goes on with the newest."""

    def __init__(self, url: str) -> None:
        self._channel = _Channel(url)
        self._next = CURRENT

    def stop(self) -> None:
        self._channel.stop()

    def segments(self) -> Iterator[Iterator[bytes]]:
        """Each segment as its pieces, as they come. Ends with the channel, or after `stop`."""
        failures = 0
        while not self._channel.stopped.is_set():
            try:
                answer = self._channel.request("GET", f"/{self._next}")
            except TimeoutError:
                self._channel.drop()  # nothing has begun; the same again
                continue
            except _BROKEN as err:
                failures += 1
                self._failed(failures, err)
                continue
            if answer.status == 200 and not answer.headers.get("Lp-Trickle-Closed"):
                failures = 0
                self._next = _number(answer, "Lp-Trickle-Seq") + 1
                yield self._pieces(answer)
                if not answer.isclosed():  # not read to its end
                    self._channel.drop()
                continue
            if answer.status in (200, 404):
                self._channel.drop()
                return
            answer.read(CHUNK)
            if answer.status == NO_SUCH_SEGMENT:
                latest = _number(answer, "Lp-Trickle-Latest")
                if latest < self._next:
                    self._channel.stopped.wait(PAUSE_S)
                else:
                    self._next = latest
                continue
            failures += 1
            self._failed(failures, ChannelFailed(f"status {answer.status}"))
        self._channel.drop()

    def _failed(self, failures: int, err: Exception) -> None:
        self._channel.drop()
        if self._channel.stopped.is_set():
            return
        if failures >= MOST_FAILURES:
            raise ChannelFailed(f"the channel cannot be read: {err}") from err
        self._channel.stopped.wait(PAUSE_S)

    def _pieces(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        while True:
            try:
                piece = answer.read1(CHUNK)
            except _BROKEN:
                # What came, came; the next segment is another request.
                self._channel.drop()
                return
            if not piece:
                return
            yield piece


def _number(answer: http.client.HTTPResponse, header: str) -> int:
    text = answer.headers.get(header, "")
    if not text.isdecimal() or len(text) > 18:
        raise ChannelFailed(f"an answer without {header}")
    return int(text)


class Publisher:
    """Writes a channel's segments: `begin`, `write` some, `end`."""

    def __init__(self, url: str, content_type: str) -> None:
        self._channel = _Channel(url)
        self._content_type = content_type
        self._sequence = 0
        self._failures = 0
        self._open = False
        # Segments that the channel has accepted.
        self.taken = 0

    def stop(self) -> None:
        self._channel.stop()

    def begin(self) -> None:
        """A new segment. One that breaks is given up, and the next one tries again."""
        try:
            self._channel.connect()
            connection = self._channel.connection
            connection.putrequest("POST", f"{self._channel.path}/{self._sequence}")
            connection.putheader("Content-Type", self._content_type)
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            self._open = True
        except _BROKEN as err:
            self._broke(err)

    def write(self, data: bytes) -> None:
        if not self._open or not data:
            return
        try:
            self._channel.connection.send(b"%x\r\n%b\r\n" % (len(data), data))
        except _BROKEN as err:
            # The server may have answered before the end: that the channel is gone.
            self._answer(err)

    def end(self) -> None:
        if not self._open:
            self._sequence += 1
            return
        try:
            self._channel.connection.send(b"0\r\n\r\n")
        except _BROKEN as err:
            self._answer(err)
        else:
            self._answer(None)
        self._sequence += 1

    def send(self, data: bytes) -> None:
        """A whole segment."""
        self.begin()
        self.write(data)
        self.end()

    def close(self) -> None:
        """Closes the channel for everybody."""
        self._channel.drop()
        try:
            self._channel.request("DELETE", "").read(CHUNK)
        except _BROKEN:
            pass
        self._channel.drop()

    def _answer(self, broken: Exception | None) -> None:
        self._open = False
        try:
            answer = self._channel.connection.getresponse()
            answer.read(CHUNK)
        except _BROKEN as err:
            self._broke(broken or err)
            return
        if answer.status == 404 or answer.headers.get("Lp-Trickle-Closed"):
            self._channel.drop()
            raise ChannelEnded
        if answer.status != 200 or broken:
            self._broke(broken or ChannelFailed(f"status {answer.status}"))
            return
        self._failures = 0
        self.taken += 1

    def _broke(self, err: Exception) -> None:
        self._open = False
        self._channel.drop()
        self._failures += 1
        if self._channel.stopped.is_set():
            raise ChannelEnded
        if self._failures >= MOST_FAILURES:
            raise ChannelFailed(f"the channel cannot be written: {err}") from err
