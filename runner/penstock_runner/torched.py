"""What the pipelines on torch share: where they run, what they refuse, and seeds. For weights that the operator
supplies: torch, diffusers and transformers are the operator's to install, and nothing is fetched.

Weights are read from safetensors only: other files of torch's can run programs.
"""

from __future__ import annotations

import importlib.util
import inspect
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .deadline import Deadline
from .errors import BadRequest
from .fields import Fields
from .network import NoCuda

# Sides of what is painted; the networks work on multiples of eight.
LEAST_SIDE, MOST_SIDE, STEP = 64, 2048, 8
MAX_PICTURES = 8
# Of all pictures of a job: the answer must stay below 64 MiB.
MAX_PIXELS = 8 << 20
MAX_STEPS = 200
MAX_GUIDANCE = 50


class MissingPackages(Exception):
    """The operator's weights need packages that are not installed."""


def need(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackages(f"these weights need {', '.join(missing)}: install them into the runner's environment "
                              f"(docs/worker.md, Your own weights)")


def place(device: str, threads: int) -> tuple[str, Any]:
    """`cuda` or `cpu`, and the kind of number that networks use there."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    if device != "cpu" and torch.cuda.is_available():
        return "cuda", torch.float16
    if device == "cuda":
        raise NoCuda("torch finds no CUDA here")
    return "cpu", torch.float32


def load_diffusers(kind: str, folder: Path, device: str, threads: int):
    """A pipeline of diffusers (`kind` is the class that opens it), and where it runs."""
    need("torch", "diffusers", "transformers", "accelerate")
    import diffusers

    where, numbers = place(device, threads)
    # Some are published in half precision only, under names that say so.
    halved = any(folder.glob("*/*.fp16.safetensors")) and not any(
        file for file in folder.glob("*/*.safetensors") if ".fp16." not in file.name)
    pipe = getattr(diffusers, kind).from_pretrained(
        str(folder), torch_dtype=numbers, use_safetensors=True, local_files_only=True, variant="fp16" if halved else None)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(where), where


def paint(pipe, deadline: Deadline, **wanted):
    """Runs a pipeline with those of the settings that it has. Between steps it looks at the deadline."""
    def step(_pipe, _number, _time, values):
        deadline.remaining_s()
        return values

    deadline.remaining_s()
    known = inspect.signature(pipe.__call__).parameters
    if "callback_on_step_end" in known:
        wanted["callback_on_step_end"] = step
    elif "callback" in known:
        wanted["callback"] = lambda *_: deadline.remaining_s()
    return pipe(**{name: value for name, value in wanted.items() if name in known and value is not None})


def generators(seed: int, count: int, where: str) -> list:
    """Each picture has the seed that makes it alone."""
    import torch

    return [torch.Generator(where).manual_seed((seed + number) % (1 << 63)) for number in range(count)]


def seed_of(fields: Fields) -> int:
    given = fields.seed()
    return secrets.randbelow(1 << 32) if given is None else given


def no_loras(fields: Fields) -> None:
    """LoRAs would have to be fetched."""
    if fields.text("loras").strip() not in ("", "{}"):
        raise BadRequest("loras cannot be used here")


def side(fields: Fields, name: str, default: int) -> int:
    value = fields.integer(name, default, LEAST_SIDE, MOST_SIDE)
    if value % STEP:
        raise BadRequest(f"{name} must be a multiple of {STEP}")
    return value


def within(pixels: int, count: int) -> None:
    if pixels * count > MAX_PIXELS:
        raise BadRequest(f"at most {MAX_PIXELS} pixels are made at once, of all images together")


def fitted(width: int, height: int) -> tuple[int, int]:
    """The nearest size that the networks can work on."""
    return tuple(min(max(round(length / STEP), LEAST_SIDE // STEP), MOST_SIDE // STEP) * STEP for length in (width, height))


def pictures(made, seed: int, url: Callable) -> list[dict]:
    """A pipeline's pictures as ai-runner answers with them. `nsfw` is what the pipeline's own checker says, if the
    weights have one."""
    import numpy

    flagged = getattr(made, "nsfw_content_detected", None) or [False] * len(made.images)
    return [{"url": url(numpy.asarray(image.convert("RGB"))), "seed": seed + number, "nsfw": bool(flag)}
            for number, (image, flag) in enumerate(zip(made.images, flagged))]
