"""The fields of a request, from a form (all text) or a JSON object, read with types and bounds.

An absent field, and an empty one where a number belongs, means its default; what nobody reads is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .errors import BadRequest

MAX_TEXT_CHARS = 16 * 1024


def checked_text(name: str, value: str, max_chars: int) -> str:
    if len(value) > max_chars:
        raise BadRequest(f"{name} is longer than {max_chars} characters")
    # JSON can spell halves of characters, which nothing can encode.
    if any("\ud800" <= sign <= "\udfff" for sign in value):
        raise BadRequest(f"{name} is not Unicode text")
    return value


class Fields:
    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def raw(self, name: str) -> Any:
        return self._values.get(name)

    def text(self, name: str, default: str = "", max_chars: int = MAX_TEXT_CHARS) -> str:
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise BadRequest(f"{name} must be text")
        return checked_text(name, value, max_chars)

    def needed_text(self, name: str, max_chars: int = MAX_TEXT_CHARS) -> str:
        value = self.text(name, max_chars=max_chars)
        if not value.strip():
            raise BadRequest(f"{name} is missing")
        return value

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self.number(name, default, low, high)
        if value != int(value):
            raise BadRequest(f"{name} must be a whole number")
        return int(value)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self._values.get(name)
        if value is None or value == "":
            return default
        try:
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise ValueError
            # A whole number beyond 2^53 (a seed may be one) must not lose its last digits.
            number = int(value) if isinstance(value, str) and value.strip("-").isdecimal() else value
            number = float(number) if isinstance(number, str) else number
        except (ValueError, OverflowError):
            raise BadRequest(f"{name} must be a number") from None
        if isinstance(number, float) and not math.isfinite(number) or not low <= number <= high:
            raise BadRequest(f"{name} must be {low} to {high}")
        return number

    def boolean(self, name: str, default: bool) -> bool:
        value = self._values.get(name)
        if value is None or value == "":
            return default
        word = str(value).lower()
        if word not in ("true", "false"):
            raise BadRequest(f"{name} must be true or false")
        return word == "true"

    def items(self, name: str, most: int) -> list:
        """A list of a JSON object, of 1 to `most` items."""
        value = self._values.get(name)
        if not isinstance(value, list) or not value:
            raise BadRequest(f"{name} must be a list that is not empty")
        if len(value) > most:
            raise BadRequest(f"{name} has more than {most} items")
        return value

    def seed(self) -> int | None:
        """`seed`, if the caller gave one."""
        if self._values.get("seed") in (None, ""):
            return None
        return self.integer("seed", 0, -(1 << 63), (1 << 64) - 1)
