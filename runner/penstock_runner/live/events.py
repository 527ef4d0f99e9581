"""What a gateway hears of its session (live-video.md sections 7.4 and 10). Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from .numbers import Numbers

# A session whose input is silent for so long is degraded.
SILENT_S = 10.0


@dataclass
class State:
    """What changes in a session, besides its numbers. Times in ms since 1970."""

    pipeline: str
    start_ms: int
    params: dict[str, Any]
    params_ms: int
    changed_ms: int
    name: str = "ONLINE"
    last_input_ms: int | None = None
    last_output_ms: int | None = None
    error: str | None = None
    error_ms: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def settle(self, now_ms: int, numbers: Numbers) -> None:
        """The state's name, from what happened."""
        quiet_since = self.last_input_ms or self.start_ms
        if self.name == "OFFLINE":
            return
        if now_ms - quiet_since > SILENT_S * 1000:
            name = "DEGRADED_INPUT"
        elif numbers.frames_in > 30 and numbers.frames_dropped * 2 > numbers.frames_in:
            name = "DEGRADED_INFERENCE"
        else:
            name = "ONLINE"
        if name != self.name:
            self.name, self.changed_ms = name, now_ms


def status(state: State, numbers: Numbers, now_ms: int, now_s: float) -> dict:
    text = json.dumps(state.params, sort_keys=True)
    event = {
        "type": "status",
        "pipeline": state.pipeline,
        "start_time": state.start_ms,
        "state": state.name,
        "last_state_update_time": state.changed_ms,
        "timestamp": now_ms,
        "input_status": {"last_input_time": state.last_input_ms, "fps": round(numbers.input_fps(now_s), 2)},
        "inference_status": {
            "last_output_time": state.last_output_ms,
            "fps": round(numbers.output_fps(now_s), 2),
            "last_params_update_time": state.params_ms,
            "last_params": state.params,
            "last_params_hash": hashlib.sha256(text.encode()).hexdigest()[:16],
            "last_error_time": state.error_ms,
            "last_error": state.error,
            "last_restart_time": None,
            "last_restart_logs": None,
            "restart_count": 0,
        },
        "measured": numbers.shown(now_s),
    }
    return {"event": event, "queue_event_type": "ai_stream_status"}


def params_update(params: dict[str, Any]) -> dict:
    return {"event": {"type": "params_update", "params": params}, "queue_event_type": "ai_stream_events"}


def error(message: str, now_ms: int) -> dict:
    return {"event": {"type": "error", "message": message, "timestamp": now_ms}, "queue_event_type": "ai_stream_events"}
