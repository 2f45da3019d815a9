"""An array that is made part by part, and is on disk once it is large."""

import tempfile
from typing import IO

import numpy as np
import numpy.typing as npt

from jaxft.base.files import cache_folder, writing

MOST_IN_MEMORY = 1 << 26
"""bytes of a larger array are on disk"""


class GrowingArray:
    """Numbers that are appended and then read as one array.

    The file of a large one has no name, and goes with the array.

    Args:
        dtype: of the numbers.

    Examples:
        >>> growing = GrowingArray(np.int32)
        >>> growing.append(np.array([1, 2]))
        >>> growing.append(np.array([3]))
        >>> growing.finished()
        array([1, 2, 3], dtype=int32)
    """

    def __init__(self, dtype: npt.DTypeLike):
        self._dtype = np.dtype(dtype)
        self._parts: list[np.ndarray] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def append(self, numbers: np.ndarray) -> None:
        """Adds numbers, (N,), at the end.

        Raises:
            InputError: the file cannot be written.
        """
        self._parts.append(numbers.astype(self._dtype, copy=False))
        self._bytes += self._parts[-1].nbytes
        if self._bytes <= MOST_IN_MEMORY:
            return
        folder = cache_folder()
        with writing(folder):
            if self._file is None:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - `finished` closes it
            for part in self._parts:
                self._file.write(part.data)
            self._file.flush()
        self._parts.clear()

    def finished(self) -> np.ndarray:
        """All numbers in one array, (N,), which is memory-mapped and read-only where it is large."""
        if self._file is None:
            return np.concatenate([np.zeros(0, self._dtype), *self._parts])
        with self._file:
            return np.memmap(self._file, self._dtype, "r")
