"""Where the tests find speech clips and models. A missing one that is installed for tests fails the test; what needs
further packages or models is skipped, and says which.

Run them in runner/ with the installed environment's python: `python -m unittest discover -s tests`.
"""

from __future__ import annotations

import os
import re
import wave
from pathlib import Path

RUNNER_DIR = Path(__file__).resolve().parent.parent


def _folder(variable: str, default: str) -> Path:
    """What `cargo xtask test` says, or where it puts things."""
    path = Path(os.environ.get(variable) or RUNNER_DIR.parent / ".dev" / default)
    if not path.is_dir():
        raise AssertionError(f"{path} is missing; run `cargo xtask test`, which fetches what tests need")
    return path


def models_dir() -> Path:
    return _folder("PENSTOCK_MODELS_DIR", "models")


def media_dir() -> Path:
    return _folder("PENSTOCK_TEST_MEDIA_DIR", "media")


def librivox() -> list[tuple[Path, str]]:
    """(clip, what is said in it) for each clip of pocketsphinx-testdata."""
    found = sorted(media_dir().rglob("transcription"))
    if not found:
        raise AssertionError(f"no LibriVox clips under {media_dir()}; `cargo xtask test` puts them there")
    clips = []
    for line in found[0].read_text().splitlines():
        match = re.fullmatch(r"<s> (.*) </s> \((.*)\)", line.strip())
        if match:
            clips.append((found[0].parent / f"{match[2]}.wav", match[1]))
    return clips


def words(text: str) -> list[str]:
    """Lower case, no punctuation, "Mr." as it is spoken: what two spellings of one sentence share."""
    plain = re.sub(r"[^a-z' ]", " ", text.lower().replace("mr.", "mister"))
    return plain.split()


def word_errors(said: list[str], heard: list[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(heard) + 1))
    for i, one in enumerate(said, 1):
        last, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (one != other))
    return row[-1]


def write_wav(path: Path, frames: bytes, rate: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(frames)
    return path


def picture(name: str) -> bytes:
    """One of scikit-image's photographs."""
    return (media_dir() / "pictures" / name).read_bytes()
