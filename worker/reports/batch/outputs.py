"""A model's network over all images of a dataset, batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.records import Record
from core.storage import Storage
from worker.engine.device import on_host
from worker.reports.inference import BATCH, LoadedModel, as_memory_allows

Progress = Callable[[int, int], None]


def outputs_of(
    model: LoadedModel, records: Sequence[Record], storage: Storage, progress: Progress
) -> Iterator[tuple[Any, NDArray[np.int64]]]:
    """What the network says of each batch, on the host, and the numbers of its images among `records`, in order.

    `progress` is told (done, total).
    """

    def said(part: slice) -> tuple[Any, NDArray[np.int64]]:
        progress(part.start, len(records))
        images = model.prepare(*(storage.read(record.key) for record in records[part]))
        return on_host(model.network(images)), np.arange(part.start, part.stop)

    yield from as_memory_allows(model, len(records), BATCH, said)
    progress(len(records), len(records))
