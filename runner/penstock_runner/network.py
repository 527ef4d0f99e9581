"""ONNX networks: where they run, and running them within a job's time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from .deadline import Deadline

if TYPE_CHECKING:
    import numpy

log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


class NoCuda(Exception):
    """The card was asked for by name and cannot be used."""


def providers(device: str, available: list[str], card_seen: bool) -> list[str]:
    """What a network may run on, best first. `auto` is the card when there is one and onnxruntime was built
    for it; the processor always comes last, for the operators a card does not have."""
    if device == "cpu":
        return [CPU]
    if CUDA in available and (card_seen or device == "cuda"):
        return [CUDA, CPU]
    if device == "cuda":
        raise NoCuda("onnxruntime has no CUDA here: install onnxruntime-gpu instead of onnxruntime")
    return [CPU]


class Network:
    """One loaded network. `graph` is a file or a serialised model."""

    def __init__(self, graph: Path | bytes, device: str = "auto", threads: int = 0) -> None:
        import onnxruntime

        from . import hardware

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        source = graph if isinstance(graph, bytes) else str(graph)
        seen = device != "cpu" and bool(hardware.compute_info())
        wanted = providers(device, onnxruntime.get_available_providers(), seen)
        self._session = onnxruntime.InferenceSession(source, options, providers=wanted)
        # A provider whose libraries are missing is left out without an error.
        self.device = "cuda" if CUDA in self._session.get_providers() else "cpu"
        if device == "cuda" and self.device != "cuda":
            raise NoCuda("the CUDA provider does not start (its log line says which library is missing)")
        if CUDA in wanted and self.device != "cuda":
            log.warning("CUDA is there but does not work: using the CPU")
        self.inputs = [entry.name for entry in self._session.get_inputs()]
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(self, inputs: dict[str, numpy.ndarray], deadline: Deadline) -> list[numpy.ndarray]:
        with deadline.run_options() as options:
            return self._session.run(None, inputs, options)
