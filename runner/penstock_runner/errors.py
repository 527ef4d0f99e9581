"""Everything a request can be refused for, each with the status and the text a caller sees.

ai-runner's callers read `{"detail": {"msg": ...}}`; `body` makes exactly that.
"""

from __future__ import annotations


class RunnerError(Exception):
    """Base: an HTTP status and a message that is safe to show."""

    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def body(self) -> dict:
        return {"detail": {"msg": self.message}}


class BadRequest(RunnerError):
    """The caller's parameters are wrong; the same request will fail again."""

    status = 400


class Unauthorized(RunnerError):
    status = 401


class TooLarge(RunnerError):
    status = 413


class UnsupportedMedia(RunnerError):
    """The file is not of a kind that can be decoded."""

    status = 415


class InferenceFailed(RunnerError):
    """The model failed on good input."""

    status = 500


class Unavailable(RunnerError):
    """Busy with another job, still loading, or broken; another runner may do it."""

    status = 503
