"""Language models in GGUF on llama.cpp, through xllamacpp: chat as a run of pieces that can be stopped.

The package opens a port on the loopback that we have no use for; it answers nobody without a key that nobody has.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .deadline import Deadline
from .errors import BadRequest, InferenceFailed, RunnerError
from .network import NoCuda

# Tokens of the question that are read between two looks at whether anybody still waits.
BATCH_TOKENS_CPU, BATCH_TOKENS_CUDA = 256, 2048
# Pieces that wait for a slow reader.
MOST_WAITING = 256
LOOK_S = 0.2


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Piece:
    """Some text; the last one has none, but says why the answer ended (`stop`, `length`) and what it took."""

    text: str
    finish_reason: str | None = None
    usage: Usage | None = None


class Llama:
    """One loaded model. Up to `slots` answers at a time, from as many threads."""

    def __init__(self, weights: Path, device: str, threads: int, slots: int, context_tokens: int) -> None:
        import xllamacpp

        gpu = device != "cpu" and any(_is_gpu(found["type"]) for found in xllamacpp.get_device_info())
        if device == "cuda" and not gpu:
            raise NoCuda("this build of xllamacpp has no CUDA, or there is no card")
        self.device = "cuda" if gpu else "cpu"
        self.context_tokens = context_tokens
        params = xllamacpp.CommonParams()
        params.model.path = str(weights)
        params.offline = True
        params.n_ctx = context_tokens * slots
        params.n_parallel = slots
        params.n_gpu_layers = -1 if gpu else 0
        params.fit_params = gpu
        params.n_batch = params.n_ubatch = BATCH_TOKENS_CUDA if gpu else BATCH_TOKENS_CPU
        if threads:
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        # Questions of strangers are not kept beside those in hand.
        params.cache_ram_mib = 0
        # What a model thinks aloud is part of its answer.
        params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
        params.api_keys = [secrets.token_hex(32)]
        params.ui = False
        params.endpoint_slots = False
        params.verbosity = 0
        self._server = xllamacpp.Server(params)

    def chat(self, request: dict, deadline: Deadline) -> Iterator[Piece]:
        """`request` as OpenAI's chat completions have it. Whoever stops reading closes the generator, which ends the
        work before it returns."""
        given: queue.Queue[Piece | RunnerError] = queue.Queue(MOST_WAITING)
        closed = threading.Event()

        def give(item: Piece | RunnerError) -> bool:
            while not (closed.is_set() or deadline.over()):
                with contextlib.suppress(queue.Full):
                    given.put(item, timeout=LOOK_S)
                    return True
            return False

        def work() -> None:
            answer = _Answer()

            def take(chunk: dict) -> bool:
                """Whether to stop. Nothing may be raised here: it would be lost."""
                return closed.is_set() or deadline.over() or not all(give(item) for item in answer.items(chunk))

            try:
                self._server.handle_chat_completions({**request, "stream": True, "return_progress": True,
                                                      "stream_options": {"include_usage": True}}, take)
                end = None if answer.complete else InferenceFailed("the answer broke off")
            except Exception as err:
                end = failure(str(err))
            if end is not None:
                give(end)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            while True:
                item = _next(given, deadline)
                if isinstance(item, RunnerError):
                    raise item
                yield item
                if item.finish_reason is not None:
                    return
        finally:
            closed.set()
            worker.join()


def _next(given: queue.Queue, deadline: Deadline) -> Piece | RunnerError:
    while True:
        with contextlib.suppress(queue.Empty):
            return given.get(timeout=min(LOOK_S, deadline.remaining_s()))


class _Answer:
    """What llama.cpp's chunks say, as our pieces. The reason comes one chunk before the counts."""

    def __init__(self) -> None:
        self.complete = False
        self._reason: str | None = None

    def items(self, chunk: dict) -> list[Piece | RunnerError]:
        if "error" in chunk:
            self.complete = True
            return [refusal(chunk["error"])]
        found: list[Piece | RunnerError] = []
        for choice in chunk.get("choices", ()):
            text = choice.get("delta", {}).get("content")
            if text:
                found.append(Piece(text))
            self._reason = choice.get("finish_reason") or self._reason
        usage = chunk.get("usage")
        if usage and self._reason and not self.complete:
            self.complete = True
            found.append(Piece("", self._reason, Usage(usage["prompt_tokens"], usage["completion_tokens"])))
        return found


def failure(said: str) -> RunnerError:
    """What llama.cpp raises: a model's template that takes no such messages says so after this mark."""
    _, refused, reason = said.partition("Jinja Exception: ")
    if refused:
        return BadRequest(f"the model's template refuses these messages: {reason.strip()}")
    return InferenceFailed(f"llama.cpp failed: {said}")


def refusal(error: dict) -> RunnerError:
    """llama.cpp's own word on a request: the caller's mistake, or its own."""
    message = str(error.get("message", "no reason given"))
    return BadRequest(message) if 400 <= error.get("code", 500) < 500 else InferenceFailed(message)


def _is_gpu(kind) -> bool:
    return kind.name in ("GGML_BACKEND_DEVICE_TYPE_GPU", "GGML_BACKEND_DEVICE_TYPE_IGPU")
