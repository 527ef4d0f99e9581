"""embeddings: texts as vectors, by OpenAI's interface (`POST /v1/embeddings`). No pipeline of the network: this runner
is registered with an orchestrator as a brought capability, and the gateway's /v1/embeddings goes to it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import bert
from ..errors import BadRequest
from ..fields import Fields, checked_text
from ..network import Network
from . import Job, Setup

if TYPE_CHECKING:
    import numpy

# OpenAI's own limit.
MAX_TEXTS = 2048
MAX_TEXT_CHARS = 16 * 1024
# Texts that go through the network at once, the short ones together.
BATCH = 16


@dataclass(frozen=True)
class Params:
    texts: list[str]
    as_base64: bool
    dimensions: int | None


class Embeddings:
    name = "embeddings"
    path = "v1/embeddings"
    file_field = None
    failed = "Embeddings pipeline error."

    @staticmethod
    def parse(fields: Fields) -> Params:
        given = fields.raw("input")
        texts = [given] if isinstance(given, str) else fields.items("input", MAX_TEXTS)
        if any(not isinstance(text, str) for text in texts):
            raise BadRequest("input must be a text or a list of texts")
        for text in texts:
            if not checked_text("input", text, MAX_TEXT_CHARS):
                raise BadRequest("input has an empty text")
        form = fields.text("encoding_format") or "float"
        if form not in ("float", "base64"):
            raise BadRequest("encoding_format must be float or base64")
        return Params(texts, form == "base64", fields.integer("dimensions", 0, 1, 1 << 20) or None)

    def __init__(self, setup: Setup) -> None:
        from tokenizers import Tokenizer

        config = bert.check(setup.directory)
        self._model_id = setup.model.model_id
        self._width = config["hidden_size"]
        self._longest = bert.longest(setup.directory, config)
        self._tokenizer = Tokenizer.from_file(str(setup.directory / "tokenizer.json"))
        # What a text has too much is said, not cut off.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._network = Network(bert.to_onnx(setup.directory, config), setup.device, setup.threads)
        self.device = self._network.device

    def run(self, job: Job) -> dict:
        import numpy

        params: Params = job.params
        if params.dimensions not in (None, self._width):
            raise BadRequest(f"dimensions must be {self._width}: this model has no others")
        tokens = [encoded.ids for encoded in self._tokenizer.encode_batch(params.texts)]
        for at, ids in enumerate(tokens):
            if len(ids) > self._longest:
                raise BadRequest(f"input {at} has {len(ids)} tokens; at most {self._longest} are taken")
        vectors = numpy.empty((len(tokens), self._width), numpy.float32)
        by_length = sorted(range(len(tokens)), key=lambda at: len(tokens[at]))
        for start in range(0, len(by_length), BATCH):
            part = by_length[start:start + BATCH]
            ids, mask = padded([tokens[at] for at in part])
            [vectors[part]] = self._network.run({"ids": ids, "mask": mask}, job.deadline)
        used = sum(map(len, tokens))
        data = [{"object": "embedding", "index": at, "embedding": written(vector, params.as_base64)}
                for at, vector in enumerate(vectors)]
        return {"object": "list", "data": data, "model": self._model_id,
                "usage": {"prompt_tokens": used, "total_tokens": used}}


def padded(tokens: list[list[int]]) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Token ids in one table, and where they are."""
    import numpy

    mask = numpy.array([[int(at < len(ids)) for at in range(max(map(len, tokens)))] for ids in tokens], numpy.int64)
    table = numpy.zeros_like(mask)
    for row, ids in zip(table, tokens):
        row[:len(ids)] = ids
    return table, mask


def written(vector: numpy.ndarray, as_base64: bool) -> str | list[float]:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if as_base64 else vector.tolist()
