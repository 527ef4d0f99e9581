"""The network's official SDK, unmodified, through what happens while a session lasts: terms that expire, a
signer that goes away, a budget that is used up, an orchestrator that dies and comes back.

    python tests/sdk/lasting.py SIGNER_URL ORCHESTRATOR_URL SECRET_FILE [API_KEY]

Registers a live runner and a client with two ways to pay, and then does what it is told, a word a line:
`reserve` a session of the runner, which the SDK funds from then on; `call` it; `heard`: the next message to
the runner; `pay` into a session of live video; `released`: wait until the SDK knows its session is over.
Prints one JSON object for each word; the test that runs this compares it.
"""

import asyncio
import sys
from pathlib import Path

from aiohttp import web
from livepeer_gateway import (
    LivepeerGatewayError,
    NoRunnerAvailableError,
    PaymentSession,
    call_runner,
    get_orch_info,
    register_runner,
    reserve_session,
)
from livepeer_gateway.errors import SkipPaymentCycle

from said import say


async def serve() -> str:
    app = web.Application()

    async def echo(_: web.Request) -> web.Response:
        return web.json_response({"echo": True})

    app.router.add_post("/echo", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return "http://127.0.0.1:%d" % runner.addresses[0][1]


class Client:
    def __init__(self, signer: str, orchestrator: str, key: str | None) -> None:
        self.signer, self.orchestrator = signer, orchestrator
        # Who it is at the signer.
        self.headers = {"Authorization": f"Bearer {key}"} if key else None
        self.session = None
        self.heard_of: asyncio.Queue = asyncio.Queue()
        self.payments = None

    async def reserve(self) -> None:
        while True:
            try:
                self.session = await reserve_session(
                    signer_url=self.signer, signer_headers=self.headers,
                    discovery_url=f"{self.orchestrator}/discovery", app="demo/live",
                )
                break
            except (NoRunnerAvailableError, LivepeerGatewayError):
                # Not registered again yet.
                await asyncio.sleep(0.1)
        say(session=self.session.session_id)

    async def call(self) -> None:
        try:
            answer = await call_runner(f"{self.session.app_url}/echo", payload={})
            say(data=answer.data)
        except LivepeerGatewayError as error:
            say(refused=str(error))

    async def heard(self) -> None:
        event = await self.heard_of.get()
        say(event=event.event, session=event.session_id, reason=event.raw.get("reason"))

    async def pay(self) -> None:
        while True:
            try:
                if self.payments is None:
                    info = await asyncio.to_thread(
                        get_orch_info, self.orchestrator, signer_url=self.signer,
                        signer_headers=self.headers,
                    )
                    self.payments = PaymentSession(
                        self.signer, info, signer_headers=self.headers, type="lv2v"
                    )
                    self.payments.set_manifest_id("lasting")
                await asyncio.to_thread(self.payments.send_payment)
                return say(paid=True)
            except SkipPaymentCycle:
                # Too little has passed since the last one.
                await asyncio.sleep(0.1)
            except LivepeerGatewayError as error:
                return say(failed=str(error))

    async def released(self) -> None:
        while not self.session.released:
            await asyncio.sleep(0.05)
        say(released=True)


async def main(
    signer: str, orchestrator: str, secret_file: str, key: str | None = None
) -> None:
    client = Client(signer, orchestrator, key)
    await register_runner(
        orchestrator, runner_url=await serve(), app="demo/live", runner_id="live-1", price=0.072,
        unit="hour", secret=Path(secret_file).read_text().strip(), auto_detect_gpu=False,
        on_session_reserve=client.heard_of.put, on_session_release=client.heard_of.put,
    )
    loop = asyncio.get_running_loop()
    while word := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        await asyncio.wait_for(getattr(client, word)(), timeout=120)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
