"""Reads the tensors out of a file that torch.save wrote, without torch and without running what is in it.

Such a file is a zip with a pickle, and a pickle is a program. This reader knows the three names that a state dict of
floats needs and refuses every other.
"""

from __future__ import annotations

import collections
import math
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

_TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class NotATensorFile(Exception):
    """Another kind of file, or one that wants more than tensors."""


def load(path: Path) -> dict:
    """What was saved: dictionaries of arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            [pickled] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            with archive.open(pickled) as source:
                return _Reader(source, archive, pickled.removesuffix("data.pkl") + "data/").load()
    except NotATensorFile:
        raise
    # A broken pickle fails in every way there is.
    except Exception as err:
        raise NotATensorFile(f"{path}: {err}") from err


class _Reader(pickle.Unpickler):
    def __init__(self, source, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(source)
        self._archive = archive
        self._folder = folder

    def find_class(self, module: str, name: str):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise NotATensorFile(f"it wants {module}.{name}, which is no tensor")

    def persistent_load(self, pid):
        import numpy

        _, kind, key, _, count = pid
        data = self._archive.read(f"{self._folder}{key}")
        values = numpy.frombuffer(data, kind)
        if len(values) != count:
            raise NotATensorFile(f"storage {key} has {len(values)} numbers, not {count}")
        return values


def _tensor(storage: numpy.ndarray, offset: int, shape: tuple, strides: tuple, *_: object) -> numpy.ndarray:
    count = math.prod(shape)
    packed = tuple(math.prod(shape[at + 1:]) for at in range(len(shape)))
    if any(side > 1 and step != wanted for side, step, wanted in zip(shape, strides, packed)):
        raise NotATensorFile("a tensor that is not stored row by row")
    return storage[offset:offset + count].reshape(shape)
