"""The network's official SDK, unmodified, in applications that are killed.

    python tests/sdk/killed.py stream
    python tests/sdk/killed.py runner ORCHESTRATOR_URL SECRET

`stream` is the worker of a brought capability: of each stream it writes one event, as soon as it begins, and then
nothing. `runner` registers itself as a live runner, `live`, at a price by the time. Both go on until they are killed.
Prints JSON, one object a line: where it is, what it has written.
"""

import asyncio
import sys

from aiohttp import web
from livepeer_gateway import TricklePublisher, register_runner

from said import say


async def serve(routes: list) -> str:
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return "http://127.0.0.1:%d" % runner.addresses[0][1]


async def stream() -> None:
    publishers = []

    async def write(url: str) -> None:
        publisher = TricklePublisher(url, "application/json")
        publishers.append(publisher)
        async with await publisher.next() as segment:
            await segment.write(b'{"event":"begun"}')
        say(written=url)

    async def start(request: web.Request) -> web.Response:
        said = await request.json()
        publishers.append(asyncio.create_task(write(said["events_url"])))
        return web.json_response({})

    async def stop(_: web.Request) -> web.Response:
        return web.json_response({})

    say(at=await serve([web.post("/stream/start", start), web.post("/stream/stop", stop)]))
    await asyncio.Event().wait()


async def runner(orchestrator: str, secret: str) -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    url = await serve([web.get("/hello", hello)])
    await register_runner(
        orchestrator, runner_url=url, app="demo/live", runner_id="live", price="0.0000000072",
        unit="hour", secret=secret, auto_detect_gpu=False, capacity=3,
    )
    say(at=url)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run({"stream": stream, "runner": runner}[sys.argv[1]](*sys.argv[2:4]))
