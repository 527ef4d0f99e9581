"""The decoding child: MPEG-TS on standard input, RGB frames on standard output (frames.py).

Runs confined (confine.py), because what it reads is a stranger's. It says one line, `ready`, when it can begin.
A packet that cannot be decoded is skipped; input that is no MPEG-TS at all ends it.
"""

from __future__ import annotations

import argparse
import os
import sys

import av

from . import frames

# Larger pictures than these are not decoded.
MAX_INPUT_PIXELS = 3840 * 2160
# What looking for streams may take: much less than usual, since it delays the first frame.
OPTIONS = {"probesize": "65536", "analyzeduration": "1", "fpsprobesize": "0", "fflags": "discardcorrupt"}


class Input:
    """Standard input as it comes: a read gives what is there instead of waiting for a whole buffer."""

    def read(self, size: int) -> bytes:
        return os.read(0, size)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-pixels", type=int, required=True, help="of a frame that is handed on")
    args = parser.parse_args()
    # Nothing but frames may come out of it.
    out = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    os.dup2(2, 1)
    out.write(b"ready\n")
    out.flush()
    try:
        decode(out, args.max_pixels)
    except (av.FFmpegError, OSError) as err:
        print(f"decoder: {err}", file=sys.stderr)
        return 1
    return 0


def decode(out, max_pixels: int) -> None:
    with av.open(Input(), mode="r", format="mpegts", options=OPTIONS) as container:
        if not container.streams.video:
            raise OSError("no video in the input")
        stream = container.streams.video[0]
        context = stream.codec_context
        # Threads by frames would hold back as many frames as there are threads.
        context.thread_type = "SLICE"
        context.flags |= 0x80000  # low delay
        context.options = {"max_pixels": str(MAX_INPUT_PIXELS)}
        last_s = None
        for packet in container.demux(stream):
            end = (packet.pos or 0) + packet.size
            try:
                decoded = packet.decode()
            except av.error.InvalidDataError:
                continue
            for picture in decoded:
                last_s = picture.time if picture.time is not None else (last_s or 0) + 1 / 30
                width, height = frames.fit(picture.width, picture.height, max_pixels)
                rgb = picture.reformat(width, height, "rgb24").to_ndarray()
                frames.write(out, frames.Frame(last_s, end, width, height, rgb.tobytes()))


if __name__ == "__main__":
    sys.exit(main())
