"""The batch pipelines, one file each.

A pipeline is a class with `name`, `path` where its route is another, `file_field` (None: the request is JSON),
`max_field_bytes` where form fields may be long, `failed` (what a caller hears when the model fails), `parse` (fields to
parameters, without a model), a constructor that loads the model, `device`, and `run` (one job, up to `slots` at a time;
an iterator instead of a dict is an answer in pieces).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import audio, manifest
from ..deadline import Deadline

# Pipeline and backend (models.toml, supplied.py); module here and class. A module is imported only by the process
# that serves it.
ALL = {
    ("audio-to-text", "faster-whisper"): ("audio_to_text", "AudioToText"),
    ("embeddings", "bert"): ("embeddings", "Embeddings"),
    ("image-to-image", "diffusers"): ("diffusers_image_to_image", "ImageToImage"),
    ("image-to-image", "onnx"): ("image_to_image", "ImageToImage"),
    ("image-to-text", "onnx"): ("image_to_text", "ImageToText"),
    ("image-to-text", "transformers"): ("transformers_image_to_text", "ImageToText"),
    ("image-to-video", "diffusers"): ("diffusers_image_to_video", "ImageToVideo"),
    ("llm", "llama.cpp"): ("llm", "Llm"),
    ("segment-anything-2", "grabcut"): ("segment_anything_2", "SegmentAnything2"),
    ("segment-anything-2", "isnet-grabcut"): ("isnet_segment_anything_2", "SegmentAnything2"),
    ("segment-anything-2", "transformers"): ("transformers_segment_anything_2", "SegmentAnything2"),
    ("text-to-image", "diffusers"): ("diffusers_text_to_image", "TextToImage"),
    ("text-to-image", "dcgan"): ("text_to_image", "TextToImage"),
    ("text-to-speech", "onnx"): ("text_to_speech", "TextToSpeech"),
    ("upscale", "diffusers"): ("diffusers_upscale", "Upscale"),
    ("upscale", "ncnn"): ("upscale", "Upscale"),
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
    # Jobs at once.
    slots: int = 1
    # Longest text of a language model, question and answer together, in tokens.
    context_tokens: int = 4096


@dataclass(frozen=True)
class Job:
    """One request: what `parse` made of its fields, its file, how long it may take."""

    params: Any
    file: Path | None
    deadline: Deadline


def find(model: manifest.Model):
    """The class that serves a model."""
    place = ALL.get((model.pipeline, model.backend))
    if place is None:
        raise manifest.ManifestError(f"nothing here serves {model.pipeline} with {model.backend}")
    module, kind = place
    return getattr(importlib.import_module(f".{module}", __name__), kind)
