"""Byte columns of the score table, which stay in the shards' files and are read where a step asks for rows.

Thumbnails and embeddings are 4 of the 4.3 kB that scoring stores per row: a table of ten million rows would be 40 GB of them.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np


class Blobs(Protocol):
    """Values of one length, in bytes, of a table's rows."""

    @property
    def given(self) -> np.ndarray:
        """bool (N): which rows have one."""
        ...

    def take(self, rows: np.ndarray) -> np.ndarray:
        """uint8 (len(rows), length) of rows that have one."""
        ...


class Stored:
    """A column of parquet files, of whose rows, one file after the other, ``place`` (N) says which are the table's."""

    def __init__(self, files: Sequence[Path], starts: np.ndarray, place: np.ndarray, column: str) -> None:
        self.files, self.starts, self.place, self.column = files, starts, place, column

    @cached_property
    def given(self) -> np.ndarray:
        """bool (N): which rows have a value."""
        return np.concatenate([np.zeros(0, bool), *(self._read(number)[0] for number in range(len(self.files)))])[self.place]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """uint8 (len(rows), length); every file that has some of the rows is read once. Rows without a value must not be among them."""
        at = self.place[rows]
        owner = np.searchsorted(self.starts, at, "right") - 1
        found = np.zeros((len(rows), 0), np.uint8)
        for number in np.unique(owner).tolist():
            mine = np.flatnonzero(owner == number)
            given, values = self._read(number)
            if not found.shape[1]:
                found = np.empty((len(rows), values.shape[1]), np.uint8)
            found[mine] = values[(np.cumsum(given) - 1)[at[mine] - self.starts[number]]]
        return found

    def _read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Of one file which rows have a value, and the values one after the other."""
        import pyarrow.parquet as pq

        column = pq.read_table(self.files[number], columns=[self.column]).column(0)
        given = column.is_valid().to_numpy()
        values = column.drop_null().combine_chunks()
        if not len(values):
            return given, np.zeros((0, 0), np.uint8)
        ends = np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values) + 1]
        return given, np.frombuffer(values.buffers()[2], np.uint8)[ends[0] : ends[-1]].reshape(len(values), -1)


def blocks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The rows, at most ``size`` at once."""
    return (rows[start : start + size] for start in range(0, len(rows), size))
