"""A language model of a few kilobytes for tests: a real GGUF file for llama.cpp, with random weights and a
vocabulary of bytes and a few words. It loads and runs like any other; what it says means nothing."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy

WIDTH, HEADS, INNER, CONTEXT = 32, 4, 64, 1 << 20
BOS, EOS = 1, 2
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6


def write(path: Path) -> Path:
    """It never ends an answer by itself."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *(chr(97 + n) for n in range(26)), "▁"]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, *[_NORMAL] * 27]
    random = numpy.random.default_rng(7)

    def weights(*shape: int) -> numpy.ndarray:
        return (random.standard_normal(shape) * 0.2).astype(numpy.float32)

    # Only letters are ever likely.
    output = numpy.zeros((len(tokens), WIDTH), numpy.float32)
    output[259:285] = weights(26, WIDTH)
    layer = {"attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH), "attn_output": (WIDTH, WIDTH),
             "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER)}
    tensors = {"token_embd.weight": weights(len(tokens), WIDTH), "output.weight": output,
               "output_norm.weight": numpy.ones(WIDTH, numpy.float32),
               "blk.0.attn_norm.weight": numpy.ones(WIDTH, numpy.float32),
               "blk.0.ffn_norm.weight": numpy.ones(WIDTH, numpy.float32),
               **{f"blk.0.{name}.weight": weights(*shape) for name, shape in layer.items()}}
    template = "{% if messages | length > 9 %}{{ raise_exception('too many turns') }}{% endif %}" \
               "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}"
    values = [("general.architecture", "llama"), ("general.name", "random"), ("llama.context_length", CONTEXT),
              ("llama.embedding_length", WIDTH), ("llama.block_count", 1), ("llama.feed_forward_length", INNER),
              ("llama.attention.head_count", HEADS), ("llama.attention.layer_norm_rms_epsilon", 1e-5),
              ("llama.rope.dimension_count", WIDTH // HEADS), ("tokenizer.ggml.model", "llama"),
              ("tokenizer.ggml.tokens", tokens), ("tokenizer.ggml.scores", [0.0] * len(tokens)),
              ("tokenizer.ggml.token_type", kinds), ("tokenizer.ggml.bos_token_id", BOS),
              ("tokenizer.ggml.eos_token_id", EOS), ("tokenizer.chat_template", template)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_file(values, tensors))
    return path


def _file(values: list, tensors: dict[str, numpy.ndarray]) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    head += b"".join(_text(key) + _value(value) for key, value in values)
    data = b""
    for name, tensor in tensors.items():
        data += bytes(-len(data) % 32)
        shape = tensor.shape[::-1]
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        data += tensor.tobytes()
    return head + bytes(-len(head) % 32) + data


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(_text(item) for item in value)
    code, kind = ("f", 6) if isinstance(value[0], float) else ("i", 5)
    return struct.pack(f"<IIQ{len(value)}{code}", 9, kind, len(value), *value)
