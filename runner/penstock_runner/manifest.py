"""The model manifest (models.toml): which files make up a model, and what each must hash to.

Standard library only: the installer reads it before any package is there.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path

DEFAULT_MANIFEST = Path(__file__).resolve().parent.parent / "models.toml"


class ManifestError(Exception):
    """The manifest cannot be read, lacks a model, or a file on disk is not the one it names."""


@dataclass(frozen=True)
class ModelFile:
    name: str
    member: str
    sha256: str


@dataclass(frozen=True)
class Model:
    pipeline: str
    model_id: str
    backend: str
    licence: str
    source: str
    package: str
    version: str
    package_sha256: str
    files: tuple[ModelFile, ...]

    def directory(self, models_dir: Path) -> Path:
        """Where the model lives: `<models>/<pipeline>/<model id with / as -->`."""
        return models_dir / self.pipeline / self.model_id.replace("/", "--")

    def check(self, models_dir: Path) -> Path:
        """The model's directory, once every file there hashes to its pin."""
        directory = self.directory(models_dir)
        for file in self.files:
            path = directory / file.name
            try:
                found = sha256_of(path)
            except OSError as err:
                raise ManifestError(f"{self.model_id}: {err}") from err
            if found != file.sha256:
                raise ManifestError(f"{path}: SHA-256 is {found}, the manifest says {file.sha256}")
        return directory


def load(path: Path = DEFAULT_MANIFEST) -> list[Model]:
    """All models of a manifest."""
    try:
        with open(path, "rb") as handle:
            entries = tomllib.load(handle)["model"]
        return [_model(entry) for entry in entries]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as err:
        raise ManifestError(f"{path}: {err!r}") from err


def find(models: list[Model], pipeline: str, model_id: str) -> Model:
    """The model for a pipeline and model id."""
    for model in models:
        if (model.pipeline, model.model_id) == (pipeline, model_id):
            return model
    raise ManifestError(f"the manifest has no model {model_id} for {pipeline}")


def sha256_of(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _model(entry: dict) -> Model:
    files = tuple(ModelFile(**file) for file in entry["file"])
    for file in files:
        if Path(file.name).name != file.name:
            raise KeyError(f"file name {file.name!r} has a path in it")
    fields = {key: value for key, value in entry.items() if key != "file"}
    return Model(files=files, **fields)
