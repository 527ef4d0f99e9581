"""The network's official SDK, unmodified, has jobs done by brought capabilities, and pays for them, through
our signer and orchestrator.

    python tests/sdk/byoc.py CASE SIGNER_URL ORCHESTRATOR_URL SECRET_FILE CERTIFICATE

`jobs` registers a worker and has jobs done; `training` trains and pays on while it lasts; `outlived` trains
while its orchestrator is killed and comes again; `refused` asks for work by a sender without money. Prints
JSON, one object a line, of what the SDK and the worker saw; the test that runs this compares it.
"""

import asyncio
import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlparse

import aiohttp
import grpc
from aiohttp import web
from livepeer_gateway import LivepeerGatewayError, NoOrchestratorAvailableError
from livepeer_gateway.byoc import (
    ByocJobRequest,
    ByocTrainingRequest,
    get_training_status,
    list_capabilities,
    refresh_training_payment,
    submit_byoc_job,
    submit_training_job,
    wait_for_training,
)

from said import say

# Where the SDK asks for terms, whatever port the orchestrator's URL names.
SDK_PORT = 8935


def forward(orchestrator: str) -> None:
    """That port of the orchestrator's host is the orchestrator's, as a router in front of it has it."""
    own = urlparse(orchestrator)
    connect, channel = socket.create_connection, grpc.secure_channel
    asked, there = (own.hostname, SDK_PORT), (own.hostname, own.port)

    def connected(address, *args, **kwargs):
        return connect(there if address == asked else address, *args, **kwargs)

    def opened(target, *args, **kwargs):
        return channel("%s:%d" % there if target == "%s:%d" % asked else target, *args, **kwargs)

    socket.create_connection, grpc.secure_channel = connected, opened


class Worker:
    """An HTTP service that is brought."""

    def __init__(self) -> None:
        self.trained = {}
        self.may_end = False

    async def serve(self) -> str:
        app = web.Application()
        app.router.add_post("/train", self.train)
        app.router.add_get("/train/{id}", self.training)
        app.router.add_post("/echo", self.echo)
        app.router.add_post("/teapot", self.teapot)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return "http://127.0.0.1:%d" % runner.addresses[0][1]

    async def echo(self, request: web.Request) -> web.Response:
        return web.json_response({
            "images": [{"url": "https://pictures.example/1.png"}],
            "got": await request.json(),
            "token": request.headers.get("Authorization"),
            "paid": "Livepeer-Payment" in request.headers,
        })

    async def train(self, request: web.Request) -> web.Response:
        said = await request.json()
        self.trained[said["job_id"]] = said
        return web.json_response({})

    async def training(self, request: web.Request) -> web.Response:
        assert request.match_info["id"] in self.trained
        if not self.may_end:
            return web.json_response({"status": "running", "progress": 40})
        file = {"url": "https://weights.example/lora.safetensors"}
        return web.json_response({"status": "completed", "result": {"diffusers_lora_file": file}})

    async def teapot(self, _: web.Request) -> web.Response:
        return web.Response(status=418, text="short and stout")


async def register(orchestrator: str, secret: str, url: str, name: str) -> None:
    said = {"name": name, "description": "what came", "url": url, "capacity": 2, "token": "sesame",
            "price_per_unit": 3_000_000_000}
    async with aiohttp.ClientSession() as http:
        to = f"{orchestrator}/capability/register"
        async with http.post(to, json=said, headers={"Authorization": secret}, ssl=False) as answer:
            assert answer.status == 200, await answer.text()


async def jobs(signer: str, orchestrator: str, secret: str) -> None:
    url = await Worker().serve()
    for name in ("echo", "teapot"):
        await register(orchestrator, secret, url, name)
    at = {"orch_url": orchestrator, "signer_url": signer}

    request = ByocJobRequest("echo", {"prompt": "a kite"}, timeout_seconds=60)
    for _ in range(2):
        answer = await asyncio.to_thread(submit_byoc_job, request, **at)
        say(data=answer.data, image=answer.image_url, balance=answer.balance,
            status=answer.status_code, at=answer.orchestrator_url)
    # One that names no orchestrator: the signer knows some.
    answer = await asyncio.to_thread(submit_byoc_job, request, signer_url=signer)
    say(discovered=answer.orchestrator_url, balance=answer.balance)

    try:
        await asyncio.to_thread(submit_byoc_job, ByocJobRequest("teapot", {}), **at)
    except LivepeerGatewayError as error:
        say(teapot=str(error))
    try:
        await asyncio.to_thread(submit_byoc_job, ByocJobRequest("nobody", {}), **at)
    except NoOrchestratorAvailableError as error:
        say(nobody=[rejection.reason for rejection in error.rejections])
    try:
        await asyncio.to_thread(submit_byoc_job, request, orch_url=orchestrator)
    except LivepeerGatewayError as error:
        say(unsigned=str(error))
    say(capabilities=await asyncio.to_thread(list_capabilities, orchestrator))


async def training(signer: str, orchestrator: str, secret: str) -> None:
    worker = Worker()
    await register(orchestrator, secret, await worker.serve(), "lora")
    request = ByocTrainingRequest("lora", "flux-lora", {"steps": 3}, timeout_seconds=60)
    begun = await asyncio.to_thread(
        submit_training_job, request, orch_url=orchestrator, signer_url=signer
    )
    say(told=list(worker.trained.values()), job=begun.job_id, status=begun.status, url=begun.status_url)
    while True:
        status = await asyncio.to_thread(get_training_status, begun.job_id, orchestrator)
        if status.status == "running":
            break
        await asyncio.sleep(0.05)
    say(progress=status.progress, model=status.model_id, result=status.result)
    paid = await asyncio.to_thread(
        refresh_training_payment, begun.job_id, orchestrator, "lora", signer_url=signer
    )
    say(credited=paid["credited_wei"], balance=paid["new_balance_wei"])
    worker.may_end = True
    status = await asyncio.to_thread(
        wait_for_training, begun.job_id, orchestrator, poll_interval=0.1, timeout=120
    )
    say(done=status.status, progress=status.progress, lora=status.lora_url, cost=status.cost,
        balance=status.balance, took=status.updated_at - status.created_at)
    try:
        await asyncio.to_thread(
            refresh_training_payment, begun.job_id, orchestrator, "lora", signer_url=signer
        )
    except LivepeerGatewayError as error:
        say(ended=str(error))


async def outlived(signer: str, orchestrator: str, secret: str) -> None:
    worker = Worker()
    await register(orchestrator, secret, await worker.serve(), "lora")
    request = ByocTrainingRequest("lora", "flux-lora", {"steps": 3}, timeout_seconds=60)
    begun = await asyncio.to_thread(
        submit_training_job, request, orch_url=orchestrator, signer_url=signer
    )
    say(job=begun.job_id)
    wait = dict(poll_interval=0.1, timeout=120)
    try:
        await asyncio.to_thread(wait_for_training, begun.job_id, orchestrator, **wait)
    except LivepeerGatewayError as error:
        # Nobody listens there just now.
        say(gone=str(error))
    while True:
        try:
            status = await asyncio.to_thread(get_training_status, begun.job_id, orchestrator)
            break
        except LivepeerGatewayError as error:
            assert "not found" not in str(error), error
            await asyncio.sleep(0.05)
    say(status=status.status)
    worker.may_end = True
    status = await asyncio.to_thread(wait_for_training, begun.job_id, orchestrator, **wait)
    say(done=status.status, lora=status.lora_url, cost=status.cost, balance=status.balance)


async def refused(signer: str, orchestrator: str, secret: str) -> None:
    await register(orchestrator, secret, await Worker().serve(), "echo")
    request = ByocJobRequest("echo", {})
    try:
        await asyncio.to_thread(
            submit_byoc_job, request, orch_url=orchestrator, signer_url=signer
        )
    except NoOrchestratorAvailableError as error:
        say(reasons=[rejection.reason for rejection in error.rejections])
    request = ByocTrainingRequest("echo", "model")
    try:
        await asyncio.to_thread(
            submit_training_job, request, orch_url=orchestrator, signer_url=signer
        )
    except NoOrchestratorAvailableError as error:
        say(training=[rejection.reason for rejection in error.rejections])


CASES = {case.__name__: case for case in (jobs, training, outlived, refused)}


async def main(case: str, signer: str, orchestrator: str, secret: str, certificate: str) -> None:
    # `list_capabilities` believes in certificates.
    os.environ["SSL_CERT_FILE"] = certificate
    forward(orchestrator)
    running = CASES[case](signer, orchestrator, Path(secret).read_text().strip())
    await asyncio.wait_for(running, timeout=180)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:6]))
