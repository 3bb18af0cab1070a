"""Batches on the device: the pixels of images, and what is true of them as far as it is as large as they.

Where they fit, they lie whole on the device. Else a thread of its own gathers them on the host, and they are copied while the last step is
computed.
"""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from queue import Empty, Full, Queue
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from worker.engine.cache import PreparationCancelledError
from worker.engine.device import Device, sent
from worker.engine.entries import Entries, Kept, Rows, firsts, places_of

_UPLOADED_BYTES = 64_000_000  # of the entries at once on their way to stay on a GPU
_Gathered = list[Tensor]  # on the host: of each kind of entries that are on the way


class Batch(NamedTuple):
    """Some images on the device, [n, 3, size, size] of bytes in channels-last order, and of each its entries of what is true; () without any."""

    images: Tensor
    targets: Sequence[Tensor]


class _Carried:
    """One kind of entries on its way to the device, or there."""

    def __init__(self, entries: Entries, device: torch.device, cancelled: Callable[[], bool], *, resident: bool) -> None:
        self.entries, self._device = entries, device
        self._first = firsts(entries.counts)
        self._there = self._uploaded(cancelled) if resident else None

    @property
    def resident(self) -> bool:
        """Whether all of them lie on the device."""
        return self._there is not None

    def _uploaded(self, cancelled: Callable[[], bool]) -> Tensor:
        """All entries on the device; the host never holds more than a part of them. Raises PreparationCancelledError."""
        rows = np.arange(len(self._first) - 1)
        each = max(1, _UPLOADED_BYTES * len(rows) // max(1, self.entries.nbytes))
        none = self.gathered(rows[:0])
        uploaded = none.new_empty((int(self._first[-1]), *none.shape[1:]), device=self._device)
        for some in np.split(rows, np.arange(each, len(rows), each)):
            if cancelled():  # entries that are made take their time
                raise PreparationCancelledError
            uploaded[self._first[some[0]] : self._first[some[-1] + 1]] = self.gathered(some)
        return uploaded

    def leave(self) -> None:
        """Be on the host only."""
        self._there = None

    def gathered(self, rows: Rows, over: Callable[[], bool] = lambda: False) -> Tensor:
        """The entries of some images, on the host; waited for until it is `over`."""
        return torch.from_numpy(self.entries.of(rows, over))

    def chosen(self, rows: Rows) -> Tensor:
        """The entries of some images out of those on the device."""
        assert self._there is not None  # noqa: S101  asked before
        return self._there[sent(places_of(self._first, rows), self._device)]


class Source:
    """Hands out batches of images, with what is true of them.

    What takes at most `resident_share` of a GPU's free memory, pixels first, lies on the GPU whole. The rest comes from the host, where arrays that are
    mapped into memory take at most `host_bytes` together; of larger ones, which may be larger than the host's memory, only the batches at hand are
    in this process.
    """

    def __init__(
        self,
        pixels: Entries,
        targets: Entries | None,
        device: Device,
        *,
        resident_share: float = 0.25,
        host_bytes: int = 8_000_000_000,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Raises PreparationCancelledError when `cancelled()` says so while entries are brought to a GPU."""
        self._device = device
        kinds = [pixels] if targets is None else [pixels, targets]
        mapped = [entries for entries in kinds if isinstance(entries, Kept)]
        if sum(entries.nbytes for entries in mapped) > host_bytes:
            for array in mapped:
                array.leave_memory()
        room = resident_share * device.free_bytes()
        self._carried: list[_Carried] = []
        for entries in kinds:
            resident = not device.is_cpu and entries.nbytes <= room
            room -= entries.nbytes if resident else 0
            self._carried.append(_Carried(entries, device.torch, cancelled, resident=resident))

    @property
    def resident(self) -> bool:
        """Whether anything lies on the device to stay."""
        return any(carried.resident for carried in self._carried)

    def leave_device(self) -> None:
        """Give the device's memory back to the network; from now on everything is streamed."""
        for carried in self._carried:
            carried.leave()

    def stream(self, batches: Sequence[Rows]) -> Generator[Batch]:
        """Each of `batches` (rows of the images), in order."""
        done = 0
        while done < len(batches):
            resident = self.resident
            moving = [carried for carried in self._carried if not carried.resident]
            here = not moving or (self._device.is_cpu and all(carried.entries.at_hand for carried in moving))
            with closing(self._at_once(batches[done:]) if here else self._copied_ahead(batches[done:], moving)) as stream:
                for batch in stream:
                    done += 1
                    yield batch
                    if self.resident != resident:  # it had to leave meanwhile
                        break

    def _at_once(self, batches: Sequence[Rows]) -> Generator[Batch]:
        for rows in batches:
            yield self._batch(rows, [carried.chosen(rows) if carried.resident else carried.gathered(rows) for carried in self._carried])

    def _batch(self, rows: Rows, entries: Sequence[Tensor]) -> Batch:
        images, *targets = entries
        split = torch.split(targets[0], self._carried[1].entries.counts[rows].tolist()) if targets else ()
        return Batch(images.permute(0, 3, 1, 2), split)

    def _copied_ahead(self, batches: Sequence[Rows], moving: Sequence[_Carried]) -> Generator[Batch]:
        """Gather on a thread, two batches ahead; on CUDA through pinned memory, copied on a stream of its own while the last step is computed."""
        queue: Queue[_Gathered | BaseException] = Queue(maxsize=2)
        stop = threading.Event()
        pinned = self._device.is_cuda

        def put(item: _Gathered | BaseException) -> None:
            while not stop.is_set():
                try:
                    queue.put(item, timeout=0.1)
                    return
                except Full:
                    continue

        def gather() -> None:
            try:
                if pinned:
                    torch.cuda.set_device(self._device.torch)  # a thread's own is the first GPU, on which a context would be made
                for rows in batches:
                    if stop.is_set():
                        return
                    host = [carried.gathered(rows, stop.is_set) for carried in moving]
                    put([one.pin_memory() for one in host] if pinned else host)
            except BaseException as error:  # noqa: BLE001  raised again by the consumer
                put(error)

        thread = threading.Thread(target=gather, name="gather", daemon=True)
        thread.start()
        copying = torch.cuda.Stream(self._device.torch) if pinned else None  # type: ignore[no-untyped-call]
        try:
            upcoming = self._to_device(_next(queue, thread), copying)
            for number, rows in enumerate(batches):
                arrived, host = upcoming
                if copying is not None:
                    current = torch.cuda.current_stream(self._device.torch)
                    current.wait_stream(copying)
                    for one in arrived:
                        one.record_stream(current)
                if number + 1 < len(batches):
                    upcoming = self._to_device(_next(queue, thread), copying)
                on_the_way = iter(arrived)
                yield self._batch(rows, [next(on_the_way) if one in moving else one.chosen(rows) for one in self._carried])
                del host  # the pinned memory may go only after its copy is done
        finally:
            stop.set()
            thread.join()

    def _to_device(self, item: _Gathered | BaseException, copying: "torch.cuda.Stream | None") -> tuple[_Gathered, _Gathered]:
        if isinstance(item, BaseException):
            raise item
        if copying is None:
            return [one.to(self._device.torch) for one in item], item
        with torch.cuda.stream(copying):
            return [one.to(self._device.torch, non_blocking=True) for one in item], item


class Reader:
    """Batches one after another; one that could not be fetched, because memory ran out, is fetched anew when it is asked for again."""

    def __init__(self, source: Source, batches: Sequence[Rows]) -> None:
        self._source, self._batches, self._number = source, batches, 0
        self._stream: Generator[Batch] | None = None
        self._batch: Batch | None = None

    def current(self) -> Batch:
        """The batch in work."""
        if self._batch is None:
            self._stream = self._stream or self._source.stream(self._batches[self._number :])
            try:
                self._batch = next(self._stream)
            except Exception:
                self.close()
                raise
        return self._batch

    def done(self) -> None:
        """Go on to the next one."""
        self._batch, self._number = None, self._number + 1

    def close(self) -> None:
        """Gather no more."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None


def _next(queue: "Queue[Any]", thread: threading.Thread) -> Any:
    while True:
        try:
            return queue.get(timeout=1)
        except Empty:
            if not thread.is_alive() and queue.empty():
                raise RuntimeError("the thread that gathers batches ended early") from None
