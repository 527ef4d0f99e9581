"""Penstock's AI runner: one process, one model, the HTTP interface of ai-runner."""

__version__ = "0.1.0"
