"""The batch pipelines, one file each.

A pipeline is a class with `name`, `file_field` (None: the request is JSON), `failed` (what a caller hears when
the model fails), `parse` (fields to parameters, without a model), a constructor that loads the model, `device`,
and `run` (one job at a time; an iterator instead of a dict is an answer in pieces).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import audio, manifest
from ..deadline import Deadline

# Pipeline, its module here, its class. A module is imported only by the process that serves it.
ALL = {
    "audio-to-text": ("audio_to_text", "AudioToText"),
    "image-to-image": ("image_to_image", "ImageToImage"),
    "image-to-text": ("image_to_text", "ImageToText"),
    "text-to-speech": ("text_to_speech", "TextToSpeech"),
    "upscale": ("upscale", "Upscale"),
}


@dataclass(frozen=True)
class Setup:
    """What a pipeline is loaded with."""

    model: manifest.Model
    directory: Path
    device: str = "auto"
    # CPU threads; 0 is the library's own choice.
    threads: int = 0
    ffmpeg: str = "ffmpeg"
    audio_limits: audio.DecodeLimits = audio.DecodeLimits()


@dataclass(frozen=True)
class Job:
    """One request: what `parse` made of its fields, its file, how long it may take."""

    params: Any
    file: Path | None
    deadline: Deadline


def find(name: str):
    """The class of a pipeline."""
    if name not in ALL:
        raise manifest.ManifestError(f"no such pipeline: {name}")
    module, kind = ALL[name]
    return getattr(importlib.import_module(f".{module}", __name__), kind)
