"""The data path: images are decoded once, with all cores, into a compact cache at training resolution; every batch is indexed from it.

The cache is one memory-mapped file of bytes, [images, size, size, 3], shared by all jobs of a host and by validation. A set for which the
cache has no room is decoded as batches are gathered, by all cores. `worker.engine.source` takes batches to the device.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.datasets.images import flattened
from core.datasets.records import Record
from core.host_limits import usable_cores
from core.settings import Settings
from core.storage import Storage
from worker.engine.cache import PreparationCancelledError, cached_array, identity_of
from worker.engine.entries import Made
from worker.engine.errors import UnreadableImageError
from worker.waiting import Patience

Pixels = NDArray[np.uint8]

_FORMAT = 1  # raise it when the pixels of a cache change their meaning
_CHUNK = 32  # images at most that a thread decodes before it is asked whether to go on


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
    except (ConnectionError, TimeoutError):  # the storage is away, not the image
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UnreadableImageError(record.path, str(error) or type(error).__name__) from error


def decoded_anew(records: Sequence[Record], size: int, storage: Storage, patience: Patience) -> Made:
    """The same pixels as `cached_pixels` gives, decoded whenever they are asked for: of sets for which the cache has no room.

    Asking waits with `patience` for a storage that does not answer, and raises UnreadableImageError for an image that is gone or damaged.
    """

    def make(row: int, over: Callable[[], bool]) -> Pixels:
        pixels: Pixels = patience.until_it_passes(lambda: _decoded(records[row], size, storage), "The images cannot be read", over)
        return pixels[None]

    return Made(np.ones(len(records), np.int64), (size, size, 3), make)


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
