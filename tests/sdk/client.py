"""The network's official SDK, unmodified: a client of somebody else's live runner, which may be killed.

    python tests/sdk/client.py SIGNER_URL ORCHESTRATOR_URL

Reserves a session of `demo/live` as soon as there is room for it, opens a stream in it and holds both until it is
told a line. Prints JSON, one object a line: that it has to wait, its session and what it heard first, that it is done.
"""

import asyncio
import sys

from livepeer_gateway import LivepeerGatewayError, NoRunnerAvailableError, call_runner, reserve_session

from said import say


async def reserved(signer: str, orchestrator: str):
    waits = False
    while True:
        try:
            return await reserve_session(
                signer_url=signer, discovery_url=f"{orchestrator}/discovery", app="demo/live"
            )
        except (NoRunnerAvailableError, LivepeerGatewayError) as error:
            if not waits:
                say(waits=str(error))
            waits = True
            await asyncio.sleep(0.1)


async def main(signer: str, orchestrator: str) -> None:
    session = await reserved(signer, orchestrator)
    async with await call_runner(f"{session.app_url}/stream", stream=True, timeout=240) as stream:
        lines = stream.aiter_lines()
        say(session=session.session_id, heard=await anext(lines))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await session.aclose()
    say(done=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
