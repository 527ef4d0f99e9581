"""Models that the operator puts there: weights in a folder, for models that no package carries.

They lie where an installed model would, `<models>/<pipeline>/<model id with / as -->`, or in the folder that
--model-dir names. What is in the folder says what loads them. Nothing is fetched, and nothing is pinned: whoever
put the files there answers for them, which the card says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .manifest import ManifestError, Model

_GGUF = ("llama.cpp", "one *.gguf file, or the numbered parts of one")
_CTRANSLATE2 = ("faster-whisper", "model.bin, config.json, tokenizer.json (Whisper for CTranslate2)")
_BERT = ("bert", "config.json (of a BERT), model.safetensors, tokenizer.json")
_DIFFUSERS = ("diffusers", "model_index.json and its folders (diffusers' form, safetensors)")
_SAM2 = ("transformers", "config.json of a SAM 2, model.safetensors (transformers' form)")
_BLIP = ("transformers", "config.json of a BLIP, model.safetensors (transformers' form)")
# Pipeline: backends that can serve it, by what their folder holds.
BACKENDS = {
    "audio-to-text": (_CTRANSLATE2,),
    "embeddings": (_BERT,),
    "image-to-image": (_DIFFUSERS,),
    "image-to-text": (_BLIP,),
    "image-to-video": (_DIFFUSERS,),
    "llm": (_GGUF,),
    "segment-anything-2": (_SAM2,),
    "text-to-image": (_DIFFUSERS,),
    "upscale": (_DIFFUSERS,),
}
_TOLD: dict[str, Callable[[Path], bool]] = {
    "bert": lambda folder: _has(folder, "config.json", "model.safetensors", "tokenizer.json"),
    "diffusers": lambda folder: _has(folder, "model_index.json"),
    "faster-whisper": lambda folder: _has(folder, "model.bin", "config.json"),
    "llama.cpp": lambda folder: gguf(folder) is not None,
    "transformers": lambda folder: _has(folder, "config.json") and any(folder.glob("*.safetensors")),
}


def _has(folder: Path, *names: str) -> bool:
    return all((folder / name).is_file() for name in names)


def gguf(folder: Path) -> Path | None:
    """The file that llama.cpp opens: the only one, or the first of numbered parts, which finds the others."""
    files = sorted(folder.glob("*.gguf"))
    first = [file for file in files if "-00001-of-" in file.name]
    return files[0] if len(files) == 1 else first[0] if len(first) == 1 else None


def find(pipeline: str, model_id: str, models_dir: Path, folder: Path | None = None) -> Model:
    """The model in `folder`, or in its place below the models."""
    if folder is None:
        name = model_id.replace("/", "--")
        if name in ("", ".", ".."):
            raise ManifestError(f"{model_id!r} is no model id")
        folder = models_dir / pipeline / name
    known = BACKENDS.get(pipeline, ())
    for backend, _ in known:
        if folder.is_dir() and _TOLD[backend](folder):
            return Model(pipeline=pipeline, model_id=model_id, backend=backend, licence="the operator's to know",
                         source=f"supplied by the operator in {folder}",
                         card="Weights supplied by the operator, under the name that the operator gave them; not checked.",
                         default=False, packages=(), files=(), folder=folder)
    if not known:
        raise ManifestError(f"the manifest has no model {model_id} for {pipeline}")
    wanted = ", or ".join(content for _, content in known)
    raise ManifestError(f"the manifest has no model {model_id} for {pipeline}, and {folder} does not hold {wanted}")
