"""llm: chat with a language model on llama.cpp (llama.py), whole or in pieces, by the template in its file."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from .. import supplied
from ..errors import BadRequest, RunnerError
from ..fields import Fields, checked_text
from ..llama import Llama, Piece
from . import Job, Setup

MAX_MESSAGES = 512
# A request has at most 1 MiB; what the model can hold, it says itself.
MAX_MESSAGE_CHARS = 1 << 20
ROLES = ("system", "user", "assistant")
# Without the caller's word; ai-runner's default.
DEFAULT_MAX_TOKENS = 256
MOST_MAX_TOKENS = 1 << 20


@dataclass(frozen=True)
class Params:
    messages: list[dict]
    stream: bool
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int


class Llm:
    name = "llm"
    file_field = None
    failed = "LLM pipeline error."

    @staticmethod
    def parse(fields: Fields) -> Params:
        return Params(
            messages=[_message(item) for item in fields.items("messages", MAX_MESSAGES)],
            stream=fields.boolean("stream", False),
            max_tokens=fields.integer("max_tokens", DEFAULT_MAX_TOKENS, 1, MOST_MAX_TOKENS),
            temperature=fields.number("temperature", 0.7, 0, 2),
            top_p=fields.number("top_p", 1.0, 0, 1),
            # -1 is all of them.
            top_k=fields.integer("top_k", -1, -1, MOST_MAX_TOKENS))

    def __init__(self, setup: Setup) -> None:
        weights = supplied.gguf(setup.directory)
        if weights is None:
            raise FileNotFoundError(f"{setup.directory} has no *.gguf file")
        self._model_id = setup.model.model_id
        self._llama = Llama(weights, setup.device, setup.threads, setup.slots, setup.context_tokens)
        self.device = self._llama.device

    def run(self, job: Job) -> dict | Iterator[dict]:
        params: Params = job.params
        asked = {"messages": params.messages, "max_tokens": min(params.max_tokens, self._llama.context_tokens),
                 "temperature": params.temperature, "top_p": params.top_p, "top_k": params.top_k}
        pieces = self._llama.chat(asked, job.deadline)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "model": self._model_id, "created": int(time.time())}
        if not params.stream:
            return {**head, **whole(pieces)}
        # A request that the model refuses is refused before the answer begins.
        try:
            first = next(pieces)
        except RunnerError:
            pieces.close()
            raise
        return Told(head, first, pieces)


class Told:
    """The answer in pieces as the network has them. Closing it ends the work, begun or not."""

    def __init__(self, head: dict, first: Piece, rest: Iterator[Piece]) -> None:
        self._head = head
        self._rest = rest
        self._all = itertools.chain([first], rest)

    def __iter__(self) -> Iterator[dict]:
        return self

    def __next__(self) -> dict:
        piece = next(self._all)
        choice = {"index": 0, "delta": {"role": "assistant", "content": piece.text},
                  "finish_reason": piece.finish_reason}
        return {**self._head, "choices": [choice], **used(piece)}

    def close(self) -> None:
        self._rest.close()


def whole(pieces: Iterator[Piece]) -> dict:
    texts, last = [], None
    for last in pieces:
        texts.append(last.text)
    message = {"role": "assistant", "content": "".join(texts)}
    return {"choices": [{"index": 0, "message": message, "finish_reason": last.finish_reason}], **used(last)}


def used(piece: Piece) -> dict:
    """Counts, of the last piece: before it they are not known."""
    if piece.usage is None:
        return {}
    asked, told = piece.usage.prompt_tokens, piece.usage.completion_tokens
    return {"usage": {"prompt_tokens": asked, "completion_tokens": told, "total_tokens": asked + told}}


def _message(item: object) -> dict:
    if not isinstance(item, dict) or item.get("role") not in ROLES or not isinstance(item.get("content"), str):
        raise BadRequest(f"each of messages must have a role ({', '.join(ROLES)}) and a content that is text")
    return {"role": item["role"], "content": checked_text("content", item["content"], MAX_MESSAGE_CHARS)}
