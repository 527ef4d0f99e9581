#!/usr/bin/env python3
"""Installs what the runner needs: a virtual environment with its packages, and the models.

    python3 runner/install.py --venv .dev/runner-venv --models .dev/models

Standard library only. Safe to repeat: finished steps are recognised and skipped. Needs Python 3.11 to 3.13
with `venv` (Debian, Ubuntu: python3-venv) and, to run later, the ffmpeg program. Packages come from the
configured pip index, pinned by hash in requirements.txt; nothing is fetched when the runner runs.
Afterwards the runner starts with `VENV/bin/python -m penstock_runner --help` (PYTHONPATH=runner).
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
STAMP = ".penstock-requirements"


def say(text: str) -> None:
    print(f"runner: {text}", flush=True)


def wanted_stamp() -> str:
    """Changes with the lock file and with the interpreter, so either rebuilds the environment."""
    lock = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    return f"{sys.version_info.major}.{sys.version_info.minor} {lock}\n"


def install_packages(venv: Path) -> None:
    stamp = venv / STAMP
    python = venv / "bin" / "python"
    if stamp.exists() and stamp.read_text() == wanted_stamp() and python.exists():
        say(f"packages ready in {venv}")
        return
    say(f"making the virtual environment {venv}")
    if venv.exists():
        shutil.rmtree(venv)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    say("installing packages (about 255 MB to download)")
    subprocess.run([str(python), "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes",
                    "--only-binary=:all:", "-r", str(REQUIREMENTS)], check=True)
    stamp.write_text(wanted_stamp())
    say(f"packages ready in {venv}")


def install_models(venv: Path, models: Path, extra: list[str]) -> None:
    asked = [word for name in extra for word in ("--with", name)]
    subprocess.run([str(venv / "bin" / "python"), str(HERE / "fetch_models.py"), "--models", str(models), *asked],
                   check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, required=True, help="virtual environment to make")
    parser.add_argument("--models", type=Path, required=True, help="model directory to fill")
    parser.add_argument("--with", dest="extra", action="append", default=[], metavar="PIPELINE[/MODEL_ID]",
                        help="models besides the default ones (fetch_models.py --list names them)")
    args = parser.parse_args()
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        say(f"Python 3.11, 3.12 or 3.13 is needed; this is {sys.version.split()[0]}")
        return 1
    try:
        # Made absolute without following links: a virtual environment's python is one.
        install_packages(args.venv.absolute())
        install_models(args.venv.absolute(), args.models.absolute(), args.extra)
    except subprocess.CalledProcessError as err:
        say(f"failed: {' '.join(map(str, err.cmd))} (exit {err.returncode})")
        if "venv" in map(str, err.cmd):
            say("on Debian and Ubuntu: apt-get install python3-venv")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
