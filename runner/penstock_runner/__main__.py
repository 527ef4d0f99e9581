"""Starts the runner: parse, bind, announce, serve. SIGTERM finishes the job in hand and exits 0."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

# The model comes from --models-dir and nowhere else: no library may reach for a network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# Threads of llama.cpp that wait for each other must not burn the processor meanwhile: it is shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import uvicorn  # noqa: E402

from . import app, audio, manifest, service, supplied  # noqa: E402
from .live import service as live  # noqa: E402

EX_CONFIG = 64


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="penstock_runner", description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", default="audio-to-text", help="what to serve")
    parser.add_argument("--model-id", default="openai/whisper-tiny.en",
                        help="a model of the manifest, or the name of weights that you supply")
    parser.add_argument("--models-dir", type=Path, required=True, help="what fetch_models.py filled")
    parser.add_argument("--model-dir", type=Path, help="folder with weights that you supply, if it is not in its "
                        "place below --models-dir: PIPELINE/MODEL_ID with / as --")
    parser.add_argument("--manifest", type=Path, default=manifest.DEFAULT_MANIFEST)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (see --addr-file)")
    parser.add_argument("--addr-file", type=Path, help='gets {"http": "host:port"} once the port is open')
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the model; 0: its own choice")
    parser.add_argument("--slots", type=int, default=1, help="jobs at once; more get 503")
    parser.add_argument("--max-job-s", type=float, default=600, help="longest job, in seconds")
    parser.add_argument("--max-audio-s", type=int, default=1800, help="longest audio accepted, in seconds")
    parser.add_argument("--context-tokens", type=int, default=4096,
                        help="longest text of a language model, question and answer together; it costs memory")
    parser.add_argument("--live-pixels", type=int, default=0,
                        help="largest frame that live video paints, in pixels; 0: 57600 on the CPU, 921600 on a card")
    parser.add_argument("--ffmpeg", default="ffmpeg", help="the ffmpeg program")
    parser.add_argument("--exit-with-parent", action="store_true",
                        help="stop when standard input ends: it is a pipe from the supervisor")
    return parser.parse_args(argv)


def write_addr_file(path: Path, address: str) -> None:
    """Renamed into place: a reader sees all of it or nothing."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps({"http": address}))
    fresh.rename(path)


def stop_when_stdin_ends() -> None:
    """A supervisor that was killed cannot say so; its end of the pipe closing can."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        logging.info("the supervisor is gone")
        # The polite way first; a job in hand has nobody left to answer to.
        threading.Timer(5, os._exit, (0,)).start()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def make_service(model: manifest.Model, args: argparse.Namespace) -> service.Service | live.LiveService:
    if model.pipeline == live.PIPELINE:
        return live.LiveService(model, args.models_dir, args.device, args.threads, args.live_pixels)
    limits = audio.DecodeLimits(duration_s=args.max_audio_s)
    return service.Service(model, args.models_dir, service.Settings(
        args.device, args.threads, args.slots, args.max_job_s, limits, args.ffmpeg, args.context_tokens))


def find_model(args: argparse.Namespace) -> manifest.Model:
    """The pinned model of that name, else what the operator put there."""
    if args.model_dir is None:
        pinned = manifest.find(manifest.load(args.manifest), args.pipeline, args.model_id)
        if pinned is not None:
            return pinned
    return supplied.find(args.pipeline, args.model_id, args.models_dir, args.model_dir)


def main() -> int:
    args = parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("faster_whisper").setLevel(logging.WARNING)
    try:
        model = find_model(args)
        runner = make_service(model, args)
    except manifest.ManifestError as err:
        logging.error("%s", err)
        return EX_CONFIG
    logging.info("%s: %s", model.model_id, model.card)
    listener = socket.create_server((args.host, args.port))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    address = "{}:{}".format(*listener.getsockname()[:2])
    if args.exit_with_parent:
        stop_when_stdin_ends()
    logging.info("listening on %s", address)
    if args.addr_file:
        write_addr_file(args.addr_file, address)
    runner.start()
    # ai-runner's name for the token; from the environment, so that no process list shows it.
    application = app.build(runner, token=os.environ.get("AUTH_TOKEN") or None)
    # Access lines would repeat what the worker logs.
    server = uvicorn.Server(uvicorn.Config(application, log_config=None, access_log=False, lifespan="off",
                                           timeout_graceful_shutdown=30))
    # uvicorn raises the signal that stopped it once more when it is done: that must not undo a clean end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listener])
    runner.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
