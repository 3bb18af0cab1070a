"""The data path: images are decoded once, with all cores, into a compact cache at training resolution; every batch is indexed from it.

The cache is one memory-mapped file of bytes, [images, size, size, 3], shared by all jobs of a host and by validation. Where it fits, it
lies whole on the device; else batches are gathered on the host by a thread of its own and copied while the last step is computed. A set for
which the cache has no room is decoded as batches are gathered, by all cores.
"""

import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from queue import Empty, Full, Queue

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from core.datasets.images import flattened
from core.datasets.records import Record
from core.host_limits import usable_cores
from core.settings import Settings
from core.storage import Storage
from worker.engine.cache import PreparationCancelledError, cached_array, identity_of
from worker.engine.device import Device
from worker.engine.errors import UnreadableImageError

Pixels = NDArray[np.uint8]

_FORMAT = 1  # raise it when the pixels of a cache change their meaning
_CHUNK = 32  # images at most that a thread decodes before it is asked whether to go on
_UPLOADED_BYTES = 64_000_000  # of the images at once on their way to stay on a GPU


def decode(data: bytes, size: int) -> Pixels:
    """One image as RGB, stretched to [size, size, 3].

    Stretching keeps the whole of very wide or tall images in view. JPEGs are decoded at the smallest scale that still has `size` pixels.
    """
    with Image.open(BytesIO(data)) as image:
        if image.format == "JPEG":
            image.draft("RGB", (size, size))
        picture = flattened(image)
    if picture.size != (size, size):
        larger = picture.width >= 2 * size and picture.height >= 2 * size
        picture = picture.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0 if larger else None)
    return np.asarray(picture)


def cached_pixels(
    records: Sequence[Record],
    fingerprint: str,
    size: int,
    *,
    storage: Storage,
    settings: Settings,
    cancelled: Callable[[], bool] = lambda: False,
) -> Pixels:
    """The pixels of all records, [len(records), size, size, 3], decoded now or by an earlier job of this host.

    Raises:
        UnreadableImageError: for an image that is gone or damaged.
        NoRoomError: when the cache has not enough room.
        PreparationCancelledError: when `cancelled()` says so while images are decoded.
    """
    identity = identity_of(_FORMAT, fingerprint, size, positions=[record.position for record in records])
    return cached_array(
        "pixels",
        identity,
        (len(records), size, size, 3),
        lambda pixels: _decode_all(records, pixels, size, storage, cancelled),
        settings=settings,
        cancelled=cancelled,
    )


def _decode_all(records: Sequence[Record], pixels: Pixels, size: int, storage: Storage, cancelled: Callable[[], bool]) -> None:
    def decode_one(index: int) -> None:
        pixels[index] = _decoded(records[index], size, storage)

    # Pillow decodes and resizes without holding the interpreter's lock, so threads use all cores.
    with_all_cores(len(records), decode_one, cancelled)


def _decoded(record: Record, size: int, storage: Storage) -> Pixels:
    path = storage.local_path(record.key)
    try:
        return decode(path.read_bytes() if path is not None else storage.read(record.key), size)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UnreadableImageError(record.path, str(error) or type(error).__name__) from error


class DecodedAnew:
    """The same pixels as `cached_pixels` gives, decoded whenever they are asked for: of sets for which the cache has no room."""

    def __init__(self, records: Sequence[Record], size: int, storage: Storage) -> None:
        self.shape = (len(records), size, size, 3)
        self.nbytes = len(records) * size * size * 3
        self._records, self._storage = records, storage
        self._cores = ThreadPoolExecutor(usable_cores(), thread_name_prefix="decode")

    def of(self, rows: NDArray[np.int64]) -> Pixels:
        """Some images, [len(rows), size, size, 3].

        Raises:
            UnreadableImageError: for an image that is gone or damaged.
        """
        size = self.shape[1]
        return np.stack(list(self._cores.map(lambda row: _decoded(self._records[row], size, self._storage), rows.tolist())))


def with_all_cores(count: int, work: Callable[[int], None], cancelled: Callable[[], bool]) -> None:
    """Do `work` for 0 … count − 1, by as many threads as there are cores.

    Raises:
        PreparationCancelledError: when `cancelled()` says so meanwhile.
    """
    stop = threading.Event()
    cores = usable_cores()
    size = max(1, min(_CHUNK, -(-count // cores)))  # of a few, each thread gets its part

    def do_chunk(start: int) -> None:
        for index in range(start, min(start + size, count)):
            if stop.is_set():
                return
            work(index)

    with ThreadPoolExecutor(cores, thread_name_prefix="prepare") as pool:
        chunks = [pool.submit(do_chunk, start) for start in range(0, count, size)]
        try:
            for chunk in chunks:
                chunk.result()
                if cancelled():
                    raise PreparationCancelledError
        finally:
            stop.set()


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch sees `count` images: a function of seed and epoch alone, so that a resumed epoch goes on in it."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def batches_of(order: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """`order` cut into the fewest batches of at most `batch_size` images whose sizes differ by at most one.

    No image is left out, and no epoch ends in a batch of one, which batch normalisation cannot take.
    """
    return list(np.array_split(order, -(-len(order) // batch_size)))


class ImageSource:
    """Hands out batches of images, [images, 3, size, size] of bytes in channels-last order, on the device.

    Pixels that take at most `resident_share` of a GPU's free memory lie on the GPU whole. Else they come from the cache: mapped into memory, where
    they take at most `host_bytes`; of larger sets, which may be larger than the host's memory, only the batches at hand are in this process.
    """

    def __init__(
        self, pixels: Pixels | DecodedAnew, device: Device, *, resident_share: float = 0.25, host_bytes: int = 8_000_000_000
    ) -> None:
        self._pixels = pixels
        self._device = device
        larger = isinstance(pixels, np.memmap) and pixels.nbytes > host_bytes
        self._file = Path(pixels.filename).open("rb", buffering=0) if larger else None  # type: ignore[union-attr]  # noqa: SIM115 - for its life
        self.resident = device.holds(resident_share, pixels.nbytes)
        self._on_device = self._uploaded() if self.resident else None

    def _uploaded(self) -> torch.Tensor:
        """All images on the device; the host never holds more than a part of them."""
        uploaded = torch.empty(self._pixels.shape, dtype=torch.uint8, device=self._device.torch)
        count = self._pixels.shape[0]
        each = max(1, _UPLOADED_BYTES * count // max(1, self._pixels.nbytes))
        for start in range(0, count, each):
            rows = np.arange(start, min(start + each, count))
            uploaded[start : start + each] = torch.from_numpy(self._gathered(rows))
        return uploaded

    def _gathered(self, rows: NDArray[np.int64]) -> Pixels:
        """A copy of some images."""
        if isinstance(self._pixels, DecodedAnew):
            return self._pixels.of(rows)
        if self._file is None:
            return np.asarray(self._pixels[rows])
        gathered = np.empty((len(rows), *self._pixels.shape[1:]), np.uint8)
        each = self._pixels[:1].nbytes
        for place in np.argsort(rows):  # in the order of the file
            start = self._pixels.offset + int(rows[place]) * each  # type: ignore[attr-defined]
            gathered[place] = np.frombuffer(os.pread(self._file.fileno(), each, start), np.uint8).reshape(gathered[place].shape)
        return gathered

    def leave_device(self) -> None:
        """Give the device's memory back to the network; from now on images are streamed."""
        self.resident, self._on_device = False, None

    def stream(self, batches: Sequence[NDArray[np.int64]]) -> Generator[torch.Tensor]:
        """The images of each of `batches` (rows of the pixels), in order."""
        if self._on_device is not None:
            for number, rows in enumerate(batches):
                if self._on_device is None:  # it had to leave meanwhile
                    yield from self._copied_ahead(batches[number:])
                    return
                chosen = torch.from_numpy(rows).to(self._device.torch, non_blocking=True)
                yield self._on_device[chosen].permute(0, 3, 1, 2)
        elif self._device.is_cpu and not isinstance(self._pixels, DecodedAnew):
            for rows in batches:
                yield torch.from_numpy(self._gathered(rows)).permute(0, 3, 1, 2)
        else:
            yield from self._copied_ahead(batches)

    def _copied_ahead(self, batches: Sequence[NDArray[np.int64]]) -> Generator[torch.Tensor]:
        """Gather on a thread, two batches ahead; on CUDA through pinned memory, copied on a stream of its own while the last step is computed."""
        queue: Queue[torch.Tensor | BaseException] = Queue(maxsize=2)
        stop = threading.Event()
        pinned = self._device.is_cuda

        def put(item: torch.Tensor | BaseException) -> None:
            while not stop.is_set():
                try:
                    queue.put(item, timeout=0.1)
                    return
                except Full:
                    continue

        def gather() -> None:
            try:
                for rows in batches:
                    if stop.is_set():
                        return
                    host = torch.from_numpy(self._gathered(rows))
                    put(host.pin_memory() if pinned else host)
            except BaseException as error:  # noqa: BLE001  raised again by the consumer
                put(error)

        thread = threading.Thread(target=gather, name="gather", daemon=True)
        thread.start()
        copying = torch.cuda.Stream(self._device.torch) if pinned else None  # type: ignore[no-untyped-call]
        try:
            upcoming = self._to_device(_next(queue, thread), copying)
            for number in range(len(batches)):
                images, host = upcoming
                if copying is not None:
                    torch.cuda.current_stream(self._device.torch).wait_stream(copying)
                    images.record_stream(torch.cuda.current_stream(self._device.torch))
                if number + 1 < len(batches):
                    upcoming = self._to_device(_next(queue, thread), copying)
                yield images.permute(0, 3, 1, 2)
                del host  # the pinned memory may go only after its copy is done
        finally:
            stop.set()
            thread.join()

    def _to_device(self, item: torch.Tensor | BaseException, copying: "torch.cuda.Stream | None") -> tuple[torch.Tensor, torch.Tensor]:
        if isinstance(item, BaseException):
            raise item
        if copying is None:
            return item.to(self._device.torch), item
        with torch.cuda.stream(copying):
            return item.to(self._device.torch, non_blocking=True), item


def _next(queue: "Queue[torch.Tensor | BaseException]", thread: threading.Thread) -> torch.Tensor | BaseException:
    while True:
        try:
            return queue.get(timeout=1)
        except Empty:
            if not thread.is_alive() and queue.empty():
                raise RuntimeError("the thread that gathers batches ended early") from None
