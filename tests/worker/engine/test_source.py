"""From the host to the device: every way hands out the same batches, images with what is true of them."""

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.datasets.records import load_records
from worker import waiting
from worker.engine import data, source
from worker.engine.cache import PreparationCancelledError
from worker.engine.data import batches_of, cached_pixels, decoded_anew, epoch_order
from worker.engine.device import Device
from worker.engine.entries import Entries, Kept, Made
from worker.engine.errors import UnreadableImageError
from worker.engine.source import Batch, Source
from worker.waiting import Patience

CPU = Device(torch.device("cpu"), "CPU", False)


class Elsewhere(Device):
    """A device that is the host and says it is not: the streamed path, step by step."""

    @property
    def is_cpu(self) -> bool:
        return False

    def free_bytes(self) -> int:
        return 0


class Roomy(Elsewhere):
    """The same, with room for all images."""

    def free_bytes(self) -> int:
        return 1 << 40


HOST, STREAMED = CPU, Elsewhere(torch.device("cpu"), "", False)
RESIDENT = Roomy(torch.device("cpu"), "", False)
WAYS = pytest.mark.parametrize("device", [HOST, STREAMED, RESIDENT], ids=["host", "streamed", "resident"])

PIXELS = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 3), dtype=np.uint8)
COUNTS = np.array([number % 3 for number in range(20)])  # of masks: none, one, or two
MASKS = np.random.default_rng(1).integers(0, 255, (int(COUNTS.sum()), 8, 8), dtype=np.uint8)


def masks_of(row: int) -> Any:
    """What is true of an image."""
    start = int(COUNTS[:row].sum())
    return MASKS[start : start + COUNTS[row]]


def made(threads: set[str]) -> Made:
    """The masks, drawn when they are asked for; says in which threads they are asked for."""

    def make(row: int, _: Any) -> Any:
        threads.add(threading.current_thread().name)
        return masks_of(row)

    return Made(COUNTS, (8, 8), make)


def assert_all_there(batches: list[Any], handed: Iterator[Batch]) -> None:
    for rows, (images, targets) in zip(batches, handed, strict=True):
        assert images.shape == (len(rows), 3, 8, 8) and images.is_contiguous(memory_format=torch.channels_last)
        assert (images.permute(0, 2, 3, 1).numpy() == PIXELS[rows]).all()
        assert [target.numpy().tolist() for target in targets] == [masks_of(row).tolist() for row in rows]


@WAYS
@pytest.mark.parametrize("targets", [Kept(MASKS, COUNTS), made(set())], ids=["kept", "made"])
def test_every_way_to_the_device_hands_out_the_same_images_with_what_is_true_of_them(device: Device, targets: Entries) -> None:
    batches = batches_of(epoch_order(20, 0, 1), 6)
    assert_all_there(batches, Source(Kept(PIXELS), targets, device).stream(batches))
    images, nothing = next(Source(Kept(PIXELS), None, device).stream(batches))
    assert images.shape == (5, 3, 8, 8) and nothing == ()


@WAYS
def test_what_the_cache_has_no_room_for_is_decoded_as_it_is_asked_for(bench: Any, device: Device) -> None:
    dataset = bench.stripes(per_class=10)
    with bench.database.read() as session:
        records = load_records(session, dataset.id, dataset.annotation_sets[0].id)
    pixels = cached_pixels(records, "abc", 24, storage=bench.storage, settings=bench.settings)
    anew = decoded_anew(records, 24, bench.storage, Patience(lambda *_: None, lambda: True))
    assert anew.nbytes == pixels.nbytes and not anew.at_hand
    batches = batches_of(epoch_order(len(records), 0, 1), 6)
    for rows, batch in zip(batches, Source(anew, None, device).stream(batches), strict=True):
        assert (batch.images.permute(0, 2, 3, 1).numpy() == pixels[rows]).all()
    bench.storage.delete(records[5].key)
    with pytest.raises(UnreadableImageError):
        list(Source(anew, None, CPU).stream(batches))


@pytest.fixture
def anew(bench: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Made, list[Exception | None]]]:
    """Images that are decoded as they are asked for, with that patience, and what goes wrong with each, as long as there is any of it left."""
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.05)
    dataset = bench.stripes(per_class=4)
    with bench.database.read() as session:
        records = load_records(session, dataset.id, dataset.annotation_sets[0].id)
    decode, failures = data.decode, list[Exception | None]()

    def failing(*arguments: Any) -> Any:
        if failures and (error := failures.pop(0)):
            raise error
        return decode(*arguments)

    monkeypatch.setattr(data, "decode", failing)
    return lambda patience: (decoded_anew(records, 24, bench.storage, patience), failures)


def test_decoding_anew_waits_for_the_storage(anew: Any) -> None:
    said: list[str] = []
    images, failures = anew(Patience(lambda message, _: said.append(message), lambda: False))
    expected = images.of(np.arange(1))
    failures += [ConnectionResetError(), TimeoutError()]
    (batch,) = Source(images, None, CPU).stream([np.arange(1)])
    assert not failures and (batch.images.permute(0, 2, 3, 1).numpy() == expected).all()
    assert len(said) == 1 and said[0].startswith("The images cannot be read: The storage fails (ConnectionResetError).")


@pytest.mark.timeout(30)
def test_a_stop_ends_the_waiting_for_images(anew: Any) -> None:
    stopped = threading.Event()
    images, failures = anew(Patience(lambda *_: stopped.set(), stopped.is_set))
    failures += [ConnectionResetError()] * 10_000
    with pytest.raises(ConnectionResetError):
        list(Source(images, None, CPU).stream([np.arange(4)]))


@pytest.mark.timeout(30)
def test_a_batch_that_nobody_needs_any_more_is_not_waited_for(anew: Any) -> None:
    """A search has seen enough, or the loss is no number any more: nobody has stopped the training itself."""
    waits = threading.Event()
    images, failures = anew(Patience(lambda *_: waits.set(), lambda: False))
    stream = Source(images, None, CPU).stream([np.arange(2)] * 50)
    next(stream)
    failures += [ConnectionResetError()] * 10_000
    for _ in range(4):  # as many as may have been gathered ahead
        if not waits.wait(0.5):
            next(stream)
    assert waits.is_set()
    stream.close()
    assert "gather" not in [thread.name for thread in threading.enumerate()]


def test_nothing_that_has_to_be_made_is_made_between_two_steps() -> None:
    """On a CPU, too: batches that come are made by other threads while a step is computed."""
    threads: set[str] = set()
    stream = Source(Kept(PIXELS), made(threads), CPU).stream([np.array([2])] * 4)
    next(stream)
    assert threads and threading.current_thread().name not in threads
    deadline = time.monotonic() + 10
    while [thread.name for thread in threading.enumerate()].count("gather") and time.monotonic() < deadline:
        time.sleep(0.01)  # the three that are left are gathered without being asked for
    assert "gather" not in [thread.name for thread in threading.enumerate()]
    assert len(list(stream)) == 3


def test_what_leaves_the_device_is_streamed_on() -> None:
    source = Source(Kept(PIXELS), Kept(MASKS, COUNTS), RESIDENT)
    batches = batches_of(epoch_order(20, 0, 1), 5)

    def leaving() -> Iterator[Batch]:
        stream = source.stream(batches)
        yield next(stream)
        assert source.resident
        source.leave_device()
        assert not source.resident
        yield from stream

    assert_all_there(batches, leaving())


def test_a_stop_is_heard_while_images_are_brought_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_UPLOADED_BYTES", 4 * MASKS[0].nbytes)
    asked: list[int] = []
    rows: set[int] = set()

    def made_so_far(row: int, _: Any) -> Any:
        rows.add(row)
        return masks_of(row)

    def cancelled() -> bool:
        asked.append(len(rows))
        return len(asked) == 3

    with pytest.raises(PreparationCancelledError):
        Source(Made(COUNTS, (8, 8), made_so_far), None, RESIDENT, cancelled=cancelled)
    assert asked[0] == 0 and 0 < asked[1] < asked[2] == len(rows) < 20


def with_room_for(amount: int) -> Device:
    class Small(Elsewhere):
        def free_bytes(self) -> int:
            return amount

    return Small(torch.device("cpu"), "", False)


def test_how_much_of_the_device_images_and_masks_may_take_is_a_setting() -> None:
    pixels, masks = Kept(PIXELS), Kept(MASKS, COUNTS)
    device = with_room_for(4 * pixels.nbytes)
    assert Source(pixels, None, device).resident
    assert not Source(pixels, None, device, resident_share=0.2).resident
    assert not Source(pixels, None, device, resident_share=0).resident
    batches = batches_of(epoch_order(20, 0, 1), 2)  # more than a thread gathers without being asked: it is still there
    for room, gathers in ((pixels.nbytes + masks.nbytes, False), (pixels.nbytes + masks.nbytes - 1, True), (masks.nbytes, True)):
        source = Source(pixels, masks, with_room_for(room), resident_share=1)
        assert source.resident  # both, the pixels, the masks
        stream = source.stream(batches)
        first = next(stream)
        assert ("gather" in [thread.name for thread in threading.enumerate()]) == gathers
        assert_all_there(batches, itertools.chain([first], stream))


def test_an_error_while_gathering_reaches_the_loop() -> None:
    source = Source(Kept(np.zeros((4, 8, 8, 3), np.uint8)), None, STREAMED)
    with pytest.raises(IndexError):
        list(source.stream([np.array([0, 1]), np.array([99])]))
    before = threading.active_count()
    stream = source.stream([np.array([0])] * 50)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def mapped_bytes() -> int:
    """What of mapped files lies in this process' memory."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssFile:")).split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("device", [HOST, STREAMED], ids=["host", "streamed"])
def test_a_set_larger_than_the_memory_it_may_take_is_streamed(tmp_path: Path, device: Device) -> None:
    shape = (600, 256, 256, 3)  # 118 MB
    pixels = np.lib.format.open_memmap(tmp_path / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
    pixels[:] = np.arange(600, dtype=np.uint8).reshape(-1, 1, 1, 1)
    pixels.flush()
    del pixels
    most = {}
    for bound in (10_000_000, 1_000_000_000):
        mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
        source = Source(Kept(mapped), None, device, host_bytes=bound)
        before = mapped_bytes()
        most[bound] = 0
        for epoch in (1, 2):
            batches = batches_of(epoch_order(600, 0, epoch), 10)
            for rows, (images, _) in zip(batches, source.stream(batches), strict=True):
                assert (images[:, 0, 0, 0].numpy() == (rows % 256)).all()
                most[bound] = max(most[bound], mapped_bytes() - before)
        del mapped, source
    assert most[10_000_000] < 10_000_000
    assert most[1_000_000_000] > 80_000_000, "where there is room the images stay"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_masks_count_among_what_may_lie_in_memory(tmp_path: Path) -> None:
    """Pixels of 20 MB and masks of 20: where 30 may, neither stays."""
    most = {}
    for bound in (30_000_000, 50_000_000):
        kinds = []
        for name, shape in (("pixels", (100, 256, 256, 3)), ("masks", (300, 256, 256))):
            np.lib.format.open_memmap(tmp_path / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape).flush()
            kinds.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
        before = mapped_bytes()
        source = Source(Kept(kinds[0]), Kept(kinds[1], np.full(100, 3)), HOST, host_bytes=bound)
        assert sum(len(images) for images, _ in source.stream(batches_of(epoch_order(100, 0, 1), 10))) == 100
        most[bound] = mapped_bytes() - before
    assert most[30_000_000] < 5_000_000 and most[50_000_000] > 30_000_000
