"""The network's official SDK, unmodified, publishing to and reading from a trickle server.

    python tests/sdk/trickle.py CASE CHANNEL_URL

Prints JSON, one object a line, of what the SDK saw; the test that runs this compares it.
"""

import asyncio
import sys
from fractions import Fraction

import av
from livepeer_gateway import (
    ChannelReader,
    Control,
    JSONLReader,
    JSONLWriter,
    MediaOutput,
    MediaPublish,
    MediaPublishConfig,
    TricklePublisher,
    TricklePublisherTerminalError,
    VideoOutputConfig,
)
from livepeer_gateway.trickle_subscriber import TrickleSubscriber

from said import say, text


async def lines():
    """What the test writes, line by line."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        yield line.rstrip("\n")


async def create(url: str) -> None:
    """A channel is made, and made again, used, and has ended for its reader."""
    publisher = TricklePublisher(url, "text/plain")
    await publisher.create()
    await publisher.create()
    subscriber = TrickleSubscriber(url)
    async with await publisher.next() as writer:
        await writer.write(b"only")
    segment = await subscriber.next()
    say(seq=segment.seq(), text=await text(segment), mime=segment.headers().get("Content-Type"))
    await publisher.close()
    assert await subscriber.next() is None
    await subscriber.close()


async def missing(url: str) -> None:
    """There is no such channel."""
    publisher = TricklePublisher(url, "text/plain")
    try:
        await publisher.create()
    except ValueError as error:
        say(create=str(error).split(" body")[0])
    writer = await publisher.next()
    try:
        while True:
            await writer.write(b"x")
    except TricklePublisherTerminalError as error:
        say(publish=str(error), not_found=publisher.get_stats().post_404)
    await publisher.close()
    assert await TrickleSubscriber(url).next() is None


async def publish(url: str) -> None:
    """One segment a line, each in two chunks, the second when the test has seen the first."""
    publisher = TricklePublisher(url, "text/plain")
    writer = None
    async for line in lines():
        if writer is None:
            writer = await publisher.next()
            await writer.write(line.encode())
        else:
            await writer.write(line.encode())
            await writer.close()
            writer = None
    await publisher.close()
    stats = publisher.get_stats()
    say(failed=stats.segments_failed, exceptions=stats.post_exceptions, started=stats.segments_started)


async def subscribe(url: str) -> None:
    """Every segment, until the channel is closed."""
    subscriber = TrickleSubscriber(url)
    while (segment := await subscriber.next()) is not None:
        say(seq=segment.seq(), text=await text(segment))
    stats = subscriber.get_stats()
    await subscriber.close()
    say(failures=stats.get_failures, gaps=stats.seq_gap_events, resets=stats.get_470_reset)


async def jsonl(url: str) -> None:
    """Objects in segments of 50 ms, in step with their reader."""
    writer = JSONLWriter(url, segment_interval=0.05)
    reader = JSONLReader(url)(start_seq=-2)
    for number in range(40):
        await writer.write({"number": number})
        assert await anext(reader) == {"number": number}
        if number % 10 == 9:
            # The segment ends. Not while the SDK does just that may its writer be closed: it would
            # take the cancellation for a failure of the segment, and go on.
            while writer._writer is not None:
                await asyncio.sleep(0.01)
    await writer.close()
    rest = [event async for event in reader]
    say(rest=rest)


async def control(url: str) -> None:
    """One object a segment."""
    writer = Control(url)
    reader = ChannelReader(url)(start_seq=-2)
    for number in range(12):
        await writer.write({"number": number})
        assert await anext(reader) == {"number": number}
    await writer.close()
    say(rest=[event async for event in reader])


async def media(url: str) -> None:
    """Frames in, encoded, muxed, through the channel, demuxed, decoded, frames out."""
    track = VideoOutputConfig(fps=25, keyframe_interval_s=0.4)
    config = MediaPublishConfig(tracks=[track], min_segment_wallclock_s=0)
    publisher, output = MediaPublish(url, config=config), MediaOutput(url)
    enough = asyncio.Event()

    async def film() -> None:
        number = 0
        while not enough.is_set():
            frame = av.VideoFrame(320, 180, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([number % 256]) * plane.buffer_size)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            await publisher.write_frame(frame)
            number += 1
            await asyncio.sleep(0.02)  # a camera has a pace
        await publisher.close()

    filming = asyncio.create_task(film())
    sizes, frames = set(), 0
    async for decoded in output.frames():
        sizes.add((decoded.frame.width, decoded.frame.height))
        frames += 1
        if frames >= 50 and output.get_stats().segments_consumed >= 3:
            enough.set()
    await filming
    stats = output.get_stats()
    await output.close()
    say(sizes=sorted(sizes), frames=frames, segments=stats.segments_consumed,
        errors=stats.decode_errors + stats.segment_read_errors + stats.content_type_errors)


CASES = {case.__name__: case for case in (create, missing, publish, subscribe, jsonl, control, media)}

async def main(case: str, url: str) -> None:
    running = asyncio.create_task(CASES[case](url))
    done, _ = await asyncio.wait([running], timeout=60)
    if not done:
        for task in asyncio.all_tasks():
            task.print_stack(file=sys.stderr)
        sys.exit("waited in vain")
    await running


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
