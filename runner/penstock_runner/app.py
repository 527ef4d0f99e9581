"""The HTTP interface of ai-runner: routes, limits, token. Handlers translate and do not decide."""

from __future__ import annotations

import hmac
import json
import logging
import re
import shutil
import tempfile
import time
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from . import __version__, hardware
from .capacity import Pieces
from .errors import BadRequest, RunnerError, TooLarge, Unauthorized
from .fields import Fields
from .live.service import LiveService
from .service import Service

log = logging.getLogger(__name__)

# ai-runner's own limit, which its callers quote to users.
MAX_UPLOAD_BYTES = 50 * 1024 * 1024
# Room around the file for the other form fields and the multipart framing.
FORM_OVERHEAD_BYTES = 1 << 20
MAX_FIELD_BYTES = 64 * 1024
MAX_JSON_BYTES = 1 << 20


# The place of a job in its caller's trace (W3C); of it, only the trace's id is of use here.
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class BodyLimit:
    """Stops reading a request past a size, whatever its Content-Length said."""

    def __init__(self, app, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen = 0

        async def counted():
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limit:
                raise _too_large()
            return message

        await self.app(scope, counted, send)


def build(service: Service | LiveService, token: str | None = None) -> Starlette:
    """The application around a service. With a token, every call but /health must carry it."""

    def guard(handler):
        async def guarded(request: Request) -> Response:
            if token and not _authorized(request, token):
                raise Unauthorized("Invalid bearer token.")
            return await handler(request)

        return guarded

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": service.health})

    async def version(_: Request) -> JSONResponse:
        return JSONResponse({"pipeline": service.pipeline, "model_id": service.model_id, "version": __version__,
                             "card": service.model.card})

    def gpu_route(query):
        async def route(_: Request) -> JSONResponse:
            found = await run_in_threadpool(query)
            return JSONResponse({"pipeline": service.pipeline, "model_id": service.model_id, "gpu_info": found})

        return route

    async def stats(_: Request) -> JSONResponse:
        found = await run_in_threadpool(hardware.utilization_stats)
        return JSONResponse({"pipeline": service.pipeline, "model_id": service.model_id, "gpu_stats": found})

    async def form_job(request: Request) -> Response:
        clock = Clock(request)
        name = service.kind.file_field
        max_field_bytes = getattr(service.kind, "max_field_bytes", MAX_FIELD_BYTES)
        _refuse_declared_size(request, MAX_UPLOAD_BYTES + FORM_OVERHEAD_BYTES)
        async with request.form(max_files=1, max_fields=32, max_part_size=max_field_bytes) as form:
            upload = form.get(name)
            if not isinstance(upload, UploadFile):
                raise BadRequest(f"the form field {name} must be a file")
            if (upload.size or 0) > MAX_UPLOAD_BYTES:
                raise _too_large()
            fields = Fields({key: value for key, value in form.items() if isinstance(value, str)})
            service.check_model(fields.text("model_id"))
            clock.begin()
            answer = await _while_heard(
                request, service, lambda deadline: _with_file(upload, lambda path: service.run(fields, deadline, path)))
        return JSONResponse(answer, headers=clock.end())

    async def json_job(request: Request) -> Response:
        clock = Clock(request)
        fields = Fields(await _json_object(request))
        # llm has its model under the name that its clients use.
        service.check_model(fields.text("model_id") or fields.text("model"))
        clock.begin()
        answer = await _while_heard(request, service, lambda deadline: service.run(fields, deadline))
        return Events(answer) if isinstance(answer, Pieces) else JSONResponse(answer, headers=clock.end())

    async def session(request: Request) -> Response:
        given = await _json_object(request)
        service.check_model(Fields(given).text("model_id"))
        return JSONResponse(await run_in_threadpool(service.begin, given))

    async def sessions(_: Request) -> Response:
        return JSONResponse(service.stats())

    if isinstance(service, LiveService):
        own = [Route(f"/{service.pipeline}", guard(session), methods=["POST"]),
               Route(f"/{service.pipeline}/stats", guard(sessions), methods=["GET"])]
    else:
        job = form_job if service.kind.file_field else json_job
        path = getattr(service.kind, "path", service.pipeline)
        own = [Route(f"/{path}", guard(job), methods=["POST"])]
    return Starlette(
        routes=[
            Route("/health", health, methods=["GET"]),
            Route("/version", guard(version), methods=["GET"]),
            Route("/hardware/info", guard(gpu_route(hardware.compute_info)), methods=["GET"]),
            Route("/hardware/stats", guard(stats), methods=["GET"]),
            *own,
        ],
        middleware=[Middleware(BodyLimit, limit=MAX_UPLOAD_BYTES + FORM_OVERHEAD_BYTES)],
        exception_handlers={RunnerError: _on_runner_error, HTTPException: _on_http_error,
                            MultiPartException: _on_multipart_error, Exception: _on_bug},
    )


class Clock:
    """What a job took: said in the answer, since a runner that is confined can tell nobody else, and in a log line
    with the trace's id."""

    def __init__(self, request: Request) -> None:
        found = TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
        self._trace_id = found.group(1) if found else None
        self._came = self._began = time.monotonic()

    def begin(self) -> None:
        """The request is read, and the work begins."""
        self._began = time.monotonic()

    def end(self) -> dict[str, str]:
        """The answer is made. Returns its headers: milliseconds, as W3C's Server-Timing has them."""
        read_ms, work_ms = (self._began - self._came) * 1000, (time.monotonic() - self._began) * 1000
        if self._trace_id:
            log.info("job done trace_id=%s read_ms=%.1f work_ms=%.1f", self._trace_id, read_ms, work_ms)
        return {"Server-Timing": f"read;dur={read_ms:.3f}, work;dur={work_ms:.3f}"}


def _authorized(request: Request, token: str) -> bool:
    given = request.headers.get("authorization", "")
    return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


def _refuse_declared_size(request: Request, limit: int) -> None:
    """Before any byte is read, when the length is announced."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large()


def _too_large() -> TooLarge:
    return TooLarge(f"file too large; max file size is {MAX_UPLOAD_BYTES >> 20}MB")


async def _json_object(request: Request) -> dict:
    _refuse_declared_size(request, MAX_JSON_BYTES)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise TooLarge(f"the request is larger than {MAX_JSON_BYTES} bytes")
    try:
        found = json.loads(body)
    # Nesting without end is an error of its own.
    except (ValueError, RecursionError):
        raise BadRequest("the request is not JSON") from None
    if not isinstance(found, dict):
        raise BadRequest("the request is not a JSON object")
    return found


class Events(StreamingResponse):
    """Server-sent events, as ai-runner's llm writes them. Its end, early or not, gives the slot back."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        super().__init__(self._lines(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    def _lines(self):
        try:
            for piece in self._pieces:
                yield f"data: {json.dumps(piece)}\n\n"
            yield "data: [DONE]\n\n"
        # The answer has begun: all that is left is to break it off, which the reader notices by what is missing.
        except RunnerError as err:
            log.warning("an answer broke off: %s", err)
        finally:
            self._pieces.close()

    async def listen_for_disconnect(self, receive) -> None:
        await super().listen_for_disconnect(receive)
        # The next piece may be far away.
        self._pieces.cancel()

    async def __call__(self, scope, receive, send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Also when not a single piece was sent.
            await run_in_threadpool(self._pieces.close)


async def _while_heard(request: Request, service: Service, work):
    """What `work` makes, in a thread of its own. A caller who hangs up meanwhile cancels it."""
    deadline = service.deadline()

    async def listen() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        deadline.cancel()

    refused: list[RunnerError] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        try:
            answer = await run_in_threadpool(work, deadline)
        # A group would wrap it.
        except RunnerError as err:
            refused.append(err)
        tasks.cancel_scope.cancel()
    if refused:
        raise refused[0]
    return answer


def _with_file(upload: UploadFile, run) -> dict:
    """Gives the upload a name on disk for as long as a decoder needs one. The client's name is never used."""
    with tempfile.TemporaryDirectory(prefix="penstock-runner-") as folder:
        path = Path(folder) / "input"
        with open(path, "wb") as target:
            shutil.copyfileobj(upload.file, target, 1 << 20)
        return run(path)


def _on_runner_error(_: Request, err: RunnerError) -> JSONResponse:
    return JSONResponse(err.body(), status_code=err.status)


def _on_http_error(_: Request, err: HTTPException) -> JSONResponse:
    # Starlette wraps errors of the form parser in a 400 of its own.
    return JSONResponse({"detail": {"msg": str(err.detail)}}, status_code=err.status_code)


def _on_multipart_error(_: Request, err: MultiPartException) -> JSONResponse:
    return JSONResponse({"detail": {"msg": err.message}}, status_code=400)


def _on_bug(_: Request, err: Exception) -> JSONResponse:
    log.error("unexpected failure", exc_info=err)
    return JSONResponse({"detail": {"msg": "Internal Server Error"}}, status_code=500)
