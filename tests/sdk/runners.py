"""The network's official SDK, unmodified: applications that register as live runners, and a client that
finds, calls, reserves and pays them through our signer and orchestrator.

    python tests/sdk/runners.py SIGNER_URL ORCHESTRATOR_URL SECRET_FILE

Prints JSON, one object a line, of what both saw; the test that runs this compares it, and writes a line
when the session may end.
"""

import asyncio
import sys
from pathlib import Path

import aiohttp
from aiohttp import web
from livepeer_gateway import (
    TricklePublisher,
    call_runner,
    discover_runners,
    register_runner,
    reserve_session,
    stop_runner_session,
)
from livepeer_gateway.trickle_subscriber import TrickleSubscriber

from said import say, text


class App:
    """What is behind the orchestrator: one program, registered twice."""

    def __init__(self) -> None:
        self.live = None
        self.tasks: list[asyncio.Task] = []

    async def serve(self) -> str:
        app = web.Application()
        for prefix in ("/call", "/live"):
            app.router.add_post(f"{prefix}/echo", self.echo)
            app.router.add_post(f"{prefix}/bytes", self.bytes)
            app.router.add_post(f"{prefix}/events", self.events)
        app.router.add_get("/live/socket", self.socket)
        app.router.add_post("/live/channels", self.channels)
        app.router.add_post("/live/close", self.close)
        app.router.add_post("/live/proxy", self.proxy)
        app.router.add_post("/live/stop", self.stop)
        app.router.add_post("/deep/echo", self.echo)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = "http://127.0.0.1:%d" % runner.addresses[0][1]
        return self.url

    async def echo(self, request: web.Request) -> web.Response:
        return web.json_response({
            "got": await request.json(),
            "path": request.path,
            "session": request.headers["Livepeer-Session-Id"],
            "paid": "Livepeer-Payment" in request.headers,
        })

    async def bytes(self, _: web.Request) -> web.Response:
        return web.Response(body=bytes(range(256)), content_type="image/x-any")

    async def events(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for number in range(3):
            await answer.write(b"data: %d\n\n" % number)
        return answer

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    async def channels(self, request: web.Request) -> web.Response:
        made = await self.live.create_trickle_channels(request, [
            {"name": "in", "mime_type": "text/plain"},
            {"name": "out", "mime_type": "text/plain"},
        ])
        at = {channel["name"]: channel for channel in made}
        self.tasks.append(asyncio.create_task(self.work(at)))
        return web.json_response({"in": at["in"]["url"], "out": at["out"]["url"]})

    async def work(self, at) -> None:
        subscriber = TrickleSubscriber(at["in"]["internal_url"], start_seq=0)
        publisher = TricklePublisher(at["out"]["internal_url"], "text/plain")
        while (segment := await subscriber.next()) is not None:
            async with await publisher.next() as writer:
                await writer.write((await text(segment)).upper().encode())
        await publisher.close()
        await subscriber.close()

    async def close(self, request: web.Request) -> web.Response:
        gone = await self.live.remove_trickle_channels(request, ["in"])
        return web.json_response({"gone": gone})

    async def proxy(self, request: web.Request) -> web.Response:
        made = await self.live.create_proxy(request, f"{self.url}/deep")
        return web.json_response({"url": made.url})

    async def stop(self, request: web.Request) -> web.Response:
        await stop_runner_session(request)
        return web.json_response({})


async def single_calls(signer: str, discovery: str) -> None:
    found = await discover_runners(discovery_url=discovery, app="demo/call")
    runner = found[0]["runners"][0]
    say(call=runner)
    paid = {"signer_url": signer, "payment_unit": runner["price_info"]["unit"]}
    url = runner["url"]
    answer = await call_runner(f"{url}/echo", payload={"a": 1}, **paid)
    say(json=answer.data, session=answer.session_id)
    answer = await call_runner(f"{url}/bytes", **paid)
    assert answer.content == bytes(range(256)) and answer.content_type == "image/x-any"
    async with await call_runner(f"{url}/events", stream=True, **paid) as stream:
        say(events=[line async for line in stream.aiter_lines() if line])


async def sessions(app: App, signer: str, discovery: str, heard: asyncio.Queue) -> None:
    loop = asyncio.get_running_loop()
    session = await reserve_session(signer_url=signer, discovery_url=discovery, app="demo/live")
    event = await heard.get()
    assert (event.event, event.session_id) == ("reserved", session.session_id)
    at = session.app_url
    say(session=session.session_id, app_url=at, control_url=session.control_url)
    say(echo=(await call_runner(f"{at}/echo", payload={"b": 2})).data)

    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(f"{at}/socket", ssl=False) as socket:
            await socket.send_str("hello")
            say(socket=(await socket.receive()).data)

    made = (await call_runner(f"{at}/channels")).data
    publisher, subscriber = (
        TricklePublisher(made["in"], "text/plain"), TrickleSubscriber(made["out"], start_seq=0)
    )
    spoken = []
    for word in ("one", "two"):
        async with await publisher.next() as writer:
            await writer.write(word.encode())
        spoken.append(await text(await subscriber.next()))
    await publisher.close()
    say(channels=spoken, urls=made)
    await subscriber.close()
    await asyncio.gather(*app.tasks)
    say(closed=(await call_runner(f"{at}/close")).data)

    proxy = (await call_runner(f"{at}/proxy")).data["url"]
    say(proxy=proxy, through=(await call_runner(f"{proxy}/echo", payload={"c": 3})).data)

    # Time passes and is paid for, until the test has seen enough.
    await loop.run_in_executor(None, sys.stdin.readline)
    await session.aclose()
    event = await heard.get()
    say(event=event.event, reason=event.raw.get("reason"), same=event.session_id == session.session_id)

    again = await reserve_session(signer_url=signer, discovery_url=discovery, app="demo/live")
    await heard.get()
    await call_runner(f"{again.app_url}/stop")
    event = await heard.get()
    say(event=event.event, reason=event.raw.get("reason"), same=event.session_id == again.session_id)
    await again.stop_payments()


async def main(signer: str, orchestrator: str, secret_file: str) -> None:
    secret = Path(secret_file).read_text().strip()
    app = App()
    url = await app.serve()
    heard: asyncio.Queue = asyncio.Queue()
    usual = {"secret": secret, "auto_detect_gpu": False}
    call = await register_runner(
        orchestrator, runner_url=f"{url}/call", app="demo/call", mode="single-shot", capacity=2,
        price="0.00002", unit="fixed", **usual,
    )
    app.live = await register_runner(
        orchestrator, runner_url=f"{url}/live", app="demo/live", runner_id="live-1", price=0.072,
        unit="hour", on_session_reserve=heard.put, on_session_release=heard.put, **usual,
    )
    discovery = f"{orchestrator}/discovery"
    await single_calls(signer, discovery)
    await sessions(app, signer, discovery, heard)
    await app.live.close()
    await call.close()
    say(left=await discover_runners(discovery_url=discovery))


async def bounded() -> None:
    running = asyncio.create_task(main(*sys.argv[1:4]))
    done, _ = await asyncio.wait([running], timeout=180)
    if not done:
        for task in asyncio.all_tasks():
            task.print_stack(file=sys.stderr)
        sys.exit("waited in vain")
    await running


if __name__ == "__main__":
    asyncio.run(bounded())
