"""A model's network over all images of a dataset, batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.datasets.records import Record
from core.storage import Storage
from worker.engine.augment import Normalisation
from worker.engine.data import batches_of, decode, with_all_cores
from worker.reports.inference import LoadedModel

_BATCH = 16
Progress = Callable[[int, int], None]


def outputs_of(
    model: LoadedModel, records: Sequence[Record], storage: Storage, progress: Progress
) -> Iterator[tuple[Any, NDArray[np.int64]]]:
    """What the network says of each batch, and the numbers of its images among `records`, in order. `progress` is told (done, total)."""
    preprocessing = model.card["preprocessing"]
    side, normalisation = int(preprocessing["size"][0]), Normalisation(tuple(preprocessing["mean"]), tuple(preprocessing["std"]))
    for rows in batches_of(np.arange(len(records)), _BATCH):
        progress(int(rows[0]), len(records))
        pixels = np.empty((len(rows), side, side, 3), np.uint8)

        def read(place: int, rows: NDArray[np.int64] = rows, pixels: NDArray[np.uint8] = pixels) -> None:
            pixels[place] = decode(storage.read(records[int(rows[place])].key), side)

        with_all_cores(len(rows), read, lambda: False)
        yield model.network(normalisation.apply(torch.from_numpy(pixels).permute(0, 3, 1, 2))), rows
    progress(len(records), len(records))
