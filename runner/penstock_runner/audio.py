"""Turns an uploaded file into 16 kHz mono samples with the ffmpeg program.

The file is a stranger's: ffmpeg runs confined (confine.py), may open only local files in a fixed list of
audio containers (so no playlist can point it at another file), and what it writes is counted while read.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import confine
from .errors import BadRequest, InferenceFailed, UnsupportedMedia

if TYPE_CHECKING:
    import numpy

SAMPLE_RATE = 16_000
BYTES_PER_SAMPLE = 2
# Demuxers of single media files. Playlist and list demuxers (hls, dash, concat, image2) stay out.
CONTAINERS = "wav,w64,aiff,au,caf,mp3,flac,ogg,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,aac,amr,ac3,mpegts,asf,flv"
STDERR_LIMIT = 2_000
# The only file ffmpeg writes is its error log.
LOG_FILE_BYTES = 4 << 20


@dataclass(frozen=True)
class DecodeLimits:
    """`duration_s` of audio at most; `wall_s` for decoding it."""

    duration_s: int = 1_800
    wall_s: int = 120
    memory_bytes: int = 1 << 30


def ffmpeg_command(ffmpeg: str, path: Path, limits: DecodeLimits) -> list[str]:
    """One second more than allowed is decoded, so that a longer file shows itself."""
    return [ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "error",
            "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-max_streams", "64",
            "-i", f"file:{path}", "-t", str(limits.duration_s + 1),
            "-map", "0:a:0", "-vn", "-sn", "-dn", "-threads", "1",
            "-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "s16le", "pipe:1"]


def decode(path: Path, limits: DecodeLimits = DecodeLimits(), ffmpeg: str = "ffmpeg") -> numpy.ndarray:
    """The samples as float32 in -1..1."""
    import numpy

    command = confine.wrap(ffmpeg_command(ffmpeg, path, limits), cpu_s=limits.wall_s,
                           memory_bytes=limits.memory_bytes, file_bytes=LOG_FILE_BYTES)
    with tempfile.TemporaryFile() as stderr:
        try:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=stderr, start_new_session=True)
        except OSError as err:
            raise InferenceFailed(f"ffmpeg cannot be started: {err}") from err
        raw = _read_bounded(child, limits)
        stderr.seek(0)
        complaint = stderr.read(STDERR_LIMIT).decode("utf-8", "replace").strip()
    if child.returncode != 0:
        raise UnsupportedMedia(f"Unsupported audio format or malformed file. {_last_line(complaint, path)}".strip())
    if len(raw) > limits.duration_s * SAMPLE_RATE * BYTES_PER_SAMPLE:
        raise BadRequest(f"audio is longer than {limits.duration_s} s")
    return numpy.frombuffer(raw, dtype="<i2").astype(numpy.float32) / 32768.0


def _read_bounded(child: subprocess.Popen, limits: DecodeLimits) -> bytes:
    """All of stdout. `-t` bounds its size; the wall clock bounds the wait."""
    try:
        raw, _ = child.communicate(timeout=limits.wall_s)
        return raw
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise BadRequest(f"audio could not be decoded within {limits.wall_s} s") from None


def _last_line(complaint: str, path: Path) -> str:
    """What ffmpeg said last, without our temporary path."""
    line = complaint.splitlines()[-1] if complaint else ""
    return line.replace(f"file:{path}", "input").replace(str(path), "input")
