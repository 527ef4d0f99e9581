"""The network's official SDK, unmodified, runs live video through our signer and orchestrator.

    python tests/sdk/live.py CASE SIGNER_URL ORCHESTRATOR_URL [MODEL]

`session` starts a job, publishes frames, decodes what comes out, sends a message and reads events, and
goes on until a line is written to it; `lasting` starts one and
says when nothing comes of it any more; `refused` starts one that cannot be had. Prints JSON, one object a
line, of what the SDK saw; the test that runs this compares it.
"""

import asyncio
import sys
from fractions import Fraction

import av
from livepeer_gateway import (
    MediaPublishConfig,
    NoOrchestratorAvailableError,
    StartJobRequest,
    VideoOutputConfig,
    start_lv2v,
)

from said import say


async def film(media, stop: asyncio.Event) -> None:
    number = 0
    while not stop.is_set():
        frame = av.VideoFrame(320, 180, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([number % 256]) * plane.buffer_size)
        frame.pts, frame.time_base = number, Fraction(1, 25)
        await media.write_frame(frame)
        number += 1
        await asyncio.sleep(0.02)  # a camera has a pace


async def session(signer: str, orchestrator: str, model: str = "noop") -> None:
    request = StartJobRequest(
        request_id="request", model_id=model, params={"prompt": "a kite"}, stream_id="stream"
    )
    job = start_lv2v([orchestrator], request, signer_url=signer)
    say(manifest=job.manifest_id, publish=job.publish_url, subscribe=job.subscribe_url,
        control=job.control_url, events=job.events_url)

    events = job.events()
    seen = [await anext(events)]

    track = VideoOutputConfig(fps=25, keyframe_interval_s=0.4)
    media = job.start_media(MediaPublishConfig(tracks=[track], min_segment_wallclock_s=0))
    stop = asyncio.Event()
    filming = asyncio.create_task(film(media, stop))

    output, sizes, frames = job.media_output(), set(), 0
    async for decoded in output.frames():
        sizes.add((decoded.frame.width, decoded.frame.height))
        frames += 1
        if frames >= 25 and output.get_stats().segments_consumed >= 2:
            break
    stats = output.get_stats()
    say(sizes=sorted(sizes), errors=stats.decode_errors + stats.segment_read_errors
        + stats.content_type_errors)

    await job.control.write({"prompt": "a fish"})
    async for event in events:
        seen.append(event)
        if event.get("event", {}).get("type") == "params_update":
            break
    say(events=seen)

    # Frames and payments go on until the test has seen enough.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    stop.set()
    await filming
    await output.close()
    await job.close()
    say(closed=True)


async def lasting(signer: str, orchestrator: str, model: str = "noop") -> None:
    request = StartJobRequest(model_id=model, stream_id="stream")
    job = start_lv2v([orchestrator], request, signer_url=signer)
    say(manifest=job.manifest_id)
    track = VideoOutputConfig(fps=25, keyframe_interval_s=0.4)
    media = job.start_media(MediaPublishConfig(tracks=[track], min_segment_wallclock_s=0))
    stop, seen = asyncio.Event(), asyncio.Event()

    async def watch() -> None:
        async for _ in job.media_output().frames():
            seen.set()

    async def listen() -> None:
        async for _ in job.events():
            pass

    parts = [asyncio.create_task(part) for part in (film(media, stop), watch(), listen())]
    await seen.wait()
    say(frames=True)
    # A reader that was in the middle of a segment does not hear of the end; the others do.
    await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    say(ended=True)
    for part in parts:
        part.cancel()


async def refused(signer: str, orchestrator: str) -> None:
    request = StartJobRequest(model_id="noop")
    try:
        start_lv2v([orchestrator], request, signer_url=signer or None)
    except NoOrchestratorAvailableError as error:
        say(reasons=[rejection.reason for rejection in error.rejections])
    else:
        sys.exit("it was started")


CASES = {case.__name__: case for case in (session, lasting, refused)}


async def main(case: str, *arguments: str) -> None:
    running = asyncio.create_task(CASES[case](*arguments))
    done, _ = await asyncio.wait([running], timeout=180)
    if not done:
        for task in asyncio.all_tasks():
            task.print_stack(file=sys.stderr)
        sys.exit("waited in vain")
    await running


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
