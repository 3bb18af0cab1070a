"""What images have, as bytes on the host: one entry for the pixels of each, as many as it needs for what is true of it, such as masks.

Either all of them lie in one array, or they are made for each batch anew.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.host_limits import usable_cores

Rows = NDArray[np.int64]


class Entries(Protocol):
    """Entries of one shape, of each image as many as `counts` says; `nbytes` is what all of them take."""

    counts: NDArray[np.int64]
    nbytes: int
    at_hand: bool  # whether they need only be copied

    def of(self, rows: Rows, over: Callable[[], bool] = lambda: False) -> NDArray[Any]:
        """A copy of the entries of the images `rows`, one image after another, [sum of `counts[rows]`, …]. May be called on any thread.

        Once they are not needed any more `over`, which any thread may ask, is true: they are waited for no longer then.
        """
        ...


def firsts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the entries of each image begin among all, and last where all end: [images + 1]."""
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int64)


def places_of(first: NDArray[np.int64], rows: Rows) -> NDArray[np.int64]:
    """Where among all entries those of the images `rows` are, one image after another; `first` is what `firsts` gives."""
    counts = first[rows + 1] - first[rows]
    return np.repeat(first[rows] - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))


class Kept:
    """Entries that lie in an array [entries, …], such as one that is mapped from the cache."""

    at_hand = True

    def __init__(self, array: NDArray[Any], counts: NDArray[np.int64] | None = None) -> None:
        """Without `counts` each image has one entry."""
        self.counts = np.ones(len(array), np.int64) if counts is None else counts
        self.nbytes = array.nbytes
        self._array, self._each = array, array[:1].nbytes
        self._first = firsts(self.counts)
        self._file: int | None = None

    def leave_memory(self) -> None:
        """Read what is asked for from the file that is mapped, if one is, instead of through the mapping: of it this process then holds nothing."""
        if isinstance(self._array, np.memmap) and self._file is None:
            self._opened = Path(self._array.filename).open("rb", buffering=0)  # type: ignore[arg-type]  # noqa: SIM115 - for its life
            self._file = self._opened.fileno()

    def of(self, rows: Rows, over: Callable[[], bool] = lambda: False) -> NDArray[Any]:
        """See `Entries`."""
        places = places_of(self._first, rows)
        if self._file is None:
            return np.asarray(self._array[places])
        gathered = np.empty((len(places), *self._array.shape[1:]), self._array.dtype)
        for place in np.argsort(places):  # in the order of the file
            start = self._array.offset + int(places[place]) * self._each  # type: ignore[attr-defined]
            gathered[place] = np.frombuffer(os.pread(self._file, self._each, start), gathered.dtype).reshape(gathered.shape[1:])
        return gathered


class Made:
    """Entries that are made, by all cores, whenever they are asked for."""

    def __init__(
        self,
        counts: NDArray[np.int64],
        shape: tuple[int, ...],
        make: Callable[[int, Callable[[], bool]], NDArray[Any]],
        *,
        dtype: type[np.generic] = np.uint8,
        at_hand: bool = False,
    ) -> None:
        """`make` gives the entries of an image, [its count, *shape], and is told `over`, as `of` is; `at_hand` says that this is hardly more than copying them."""
        self.counts, self.at_hand = counts, at_hand
        self.nbytes = int(counts.sum()) * int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._shape, self._dtype, self._make = shape, dtype, make
        self._cores = ThreadPoolExecutor(usable_cores(), thread_name_prefix="make")

    def of(self, rows: Rows, over: Callable[[], bool] = lambda: False) -> NDArray[Any]:
        """See `Entries`; raises what making them raises."""
        ends = np.cumsum(self.counts[rows]).tolist()
        gathered = np.empty((ends[-1] if ends else 0, *self._shape), self._dtype)

        def fill(place: int) -> None:
            gathered[ends[place] - int(self.counts[rows[place]]) : ends[place]] = self._make(int(rows[place]), over)

        list(self._cores.map(fill, range(len(rows))))
        return gathered
