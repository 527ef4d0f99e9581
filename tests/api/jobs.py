"""Hooks of schemathesis: about every third request of the gateway's document is replaced with a job that can be
done, and the routes that did one are written down, for the test to see that all of them were looked at.

Lies in a folder with `picture.png`, `speech.wav` and `segment.ts`; `done` is written there.
"""

import base64
import itertools
import json
import pathlib

import schemathesis

HERE = pathlib.Path(__file__).parent
PICTURE = (HERE / "picture.png").read_bytes()
SPEECH = (HERE / "speech.wav").read_bytes()
SEGMENT = (HERE / "segment.ts").read_bytes()
WORDS = [{"role": "user", "content": "hi"}]
BROUGHT = {
    "id": "mine", "request": "{}", "parameters": "{}", "capability": "flux", "timeout_seconds": 2,
}
NUMBERS = itertools.count()


def chat(**more):
    return {"json": {"model": "", "max_tokens": 16, "messages": WORDS, **more}}


def form(files, **fields):
    return {"files": files, "data": fields}


def picture(**fields):
    return form({"image": ("kite.png", PICTURE, "image/png")}, **fields)


def speech(field="audio", **fields):
    return form({field: ("a.wav", SPEECH, "audio/wav")}, **fields)


MODELS = {
    "llm": "meta-llama/llama-3.1-8B-Instruct",
    "text-to-speech": "parler-tts/parler-tts-large-v1",
    "text-to-image": "stabilityai/sdxl-turbo",
    "audio-to-text": "openai/whisper-tiny.en",
}


def brought():
    job = base64.b64encode(json.dumps(BROUGHT).encode()).decode()
    return {"data": b"{}", "headers": {"Livepeer": job, "Content-Type": "application/json"}}


# Of each route, jobs in turn.
JOBS = {
    "/text-to-image": [lambda: {"json": {"prompt": "a", "width": 64, "height": 64}}],
    "/image-to-image": [lambda: picture(prompt="a")],
    "/image-to-video": [picture, lambda: {**picture(), "headers": {"Prefer": "respond-async"}}],
    "/upscale": [lambda: picture(prompt="a")],
    "/audio-to-text": [speech],
    "/segment-anything-2": [picture],
    "/llm": [chat, lambda: chat(stream=True)],
    "/image-to-text": [picture],
    "/text-to-speech": [lambda: {"json": {"text": "Hello."}}],
    "/v1/chat/completions": [
        lambda: chat(model=MODELS["llm"]), lambda: chat(model=MODELS["llm"], stream=True),
    ],
    "/v1/audio/transcriptions": [
        lambda kind=kind: speech("file", model=MODELS["audio-to-text"], response_format=kind)
        for kind in ("json", "text", "srt", "vtt", "verbose_json")
    ],
    "/v1/audio/speech": [
        lambda: {"json": {"model": MODELS["text-to-speech"], "input": "Hello.", "voice": "alloy",
                          "response_format": "wav"}},
    ],
    "/v1/images/generations": [
        lambda kind=kind: {"json": {"model": MODELS["text-to-image"], "prompt": "a", "response_format": kind}}
        for kind in ("url", "b64_json")
    ],
    "/v1/embeddings": [
        lambda kind=kind: {"json": {"model": "m", "input": "a", "encoding_format": kind}}
        for kind in ("float", "base64")
    ],
    "/process/request/": [brought],
    "/process/request/{path}": [brought],
}


@schemathesis.serializer("video/mp2t", "video/mp4")
def media(ctx, value):
    """Media as bodies: whatever the generator makes up, as bytes."""
    return value if isinstance(value, bytes) else str(value).encode()


FILMS = []


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """Every third request of a route of jobs becomes one."""
    number, path = next(NUMBERS), case.operation.path
    if path == "/live/{stream}/{file}":
        # Who does not ask for the renditions gets an empty answer of no type.
        case.headers = {**(case.headers or {}), "Accept": "multipart/mixed"}
    if number % 3 or case.method.upper() != "POST":
        return
    if path == "/image-to-video/result" and FILMS:
        job = {"json": {"request_id": FILMS[-1]}}
    elif path == "/live/{stream}/{file}":
        # A number of its own each time: under the same one the same bytes are expected.
        case.path_parameters = {"stream": "known", "file": f"{1000 + number}.ts"}
        job = {"data": SEGMENT, "headers": {"Content-Type": "video/mp2t", "Accept": "multipart/mixed"}}
    elif path in JOBS:
        jobs = JOBS[path]
        job = jobs[number // 3 % len(jobs)]()
    else:
        return
    case.headers = job.pop("headers", {})
    case.query = {}
    kwargs.update(job)


@schemathesis.hook
def after_call(ctx, case, response):
    """Writes down what was done."""
    if case.method.upper() != "POST" or response.status_code not in (200, 202):
        return
    if response.status_code == 202:
        FILMS.append(json.loads(response.content).get("request_id"))
    with (HERE / "done").open("a") as done:
        print(case.operation.path, file=done)
