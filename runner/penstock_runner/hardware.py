"""What GPUs this machine has, as ai-runner's /hardware routes report them.

Asks the nvidia-smi program when there is one; a machine without it has no GPU for us.
"""

from __future__ import annotations

import shutil
import subprocess

_MIB = 1 << 20


def compute_info() -> dict[str, dict]:
    """`{"0": {id, name, memory_total, memory_free, major, minor}}`, memory in bytes."""
    info = {}
    for index, uuid, name, total, free, cap in _query("uuid,name,memory.total,memory.free,compute_cap"):
        major, _, minor = cap.partition(".")
        info[index] = {"id": uuid, "name": name, "memory_total": _int(total) * _MIB,
                       "memory_free": _int(free) * _MIB, "major": _int(major), "minor": _int(minor)}
    return info


def utilization_stats() -> dict[str, dict]:
    """The same outline with what moves: temperature, fan, use of compute and memory."""
    fields = "uuid,name,memory.total,memory.free,temperature.gpu,fan.speed,utilization.gpu,utilization.memory"
    stats = {}
    for index, uuid, name, total, free, temperature, fan, compute, memory in _query(fields):
        stats[index] = {"id": uuid, "name": name, "memory_total": _int(total) * _MIB,
                        "memory_free": _int(free) * _MIB, "temperature_celsius": _int(temperature),
                        "fan_speed": _int(fan), "utilization_compute": _int(compute),
                        "utilization_memory": _int(memory)}
    return stats


def _query(fields: str) -> list[list[str]]:
    nvidia_smi = shutil.which("nvidia-smi")
    if nvidia_smi is None:
        return []
    command = [nvidia_smi, f"--query-gpu=index,{fields}", "--format=csv,noheader,nounits"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    wanted = fields.count(",") + 2
    rows = [[cell.strip() for cell in line.split(",")] for line in out.splitlines()]
    return [row for row in rows if len(row) == wanted]


def _int(text: str) -> int:
    """nvidia-smi writes "[N/A]" for what a card does not have."""
    return int(text) if text.isdigit() else 0
