"""Copies for checkpoints: what was copied changes no more, lies as it lay, and takes its memory once."""

import errno
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core.errors import UnavailableError
from core.storage import Storage
from core.tasks.journal import FencedError
from worker import waiting
from worker.engine import checkpoint
from worker.engine.checkpoint import Best, CheckpointFolder, Copies
from worker.engine.state import State, pack, unpack_weights
from worker.waiting import Patience

NONE = Patience(lambda *_: None, lambda: True)


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    network = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), 0.1)
    step(network, optimizer)
    return network, optimizer


def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    network(torch.ones(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [
        tensor
        for item in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else [])
        for tensor in tensors(item)
    ]


def test_a_copy_changes_no_more_and_lies_as_its_original() -> None:
    network, optimizer = trained()
    live = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "epochs": [1, 2]}
    copied = Copies().of(live, "state")
    before = [tensor.clone() for tensor in tensors(live)]
    for original, copy in zip(tensors(live), tensors(copied), strict=True):
        assert torch.equal(original, copy) and original.stride() == copy.stride()
    step(network, optimizer)
    assert all(torch.equal(kept, copy) for kept, copy in zip(before, tensors(copied), strict=True))
    assert copied["epochs"] == [1, 2] and copied["epochs"] is not live["epochs"]


def test_the_next_copy_takes_no_more_memory() -> None:
    network, optimizer = trained()
    copies = Copies()
    first = [tensor.data_ptr() for tensor in tensors(copies.of(network.state_dict(), "state"))]
    step(network, optimizer)
    second = copies.of(network.state_dict(), "state")
    assert [tensor.data_ptr() for tensor in tensors(second)] == first
    assert torch.equal(second["weight"], network.state_dict()["weight"])
    others = {tensor.data_ptr() for tensor in tensors(copies.of(network.state_dict(), "details"))}
    assert others.isdisjoint(first)


def test_what_is_begun_is_copied_when_it_is_called_for_by_any_thread() -> None:
    network, optimizer = trained()
    live = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
    copied, copy = Copies().begin(live, "state")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(copy).result()
    assert all(torch.equal(original, kept) for original, kept in zip(tensors(live), tensors(copied), strict=True))


def test_a_snapshot_that_could_not_be_copied_is_not_written(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    folder = CheckpointFolder(storage, "tasks/one", 1, NONE)

    def copy() -> None:
        raise MemoryError

    folder.save({"best_key": ""}, None, lambda: None, copy)
    with pytest.raises(MemoryError):
        folder.await_copied()
    with pytest.raises(MemoryError):
        folder.drain()
    folder.close()
    assert storage.list("tasks") == []


def test_the_two_files_of_a_checkpoint_are_timed_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_save", lambda storage, key, value: time.sleep(0.6 if "/best-" in key else 0.2))
    folder = CheckpointFolder(Storage(tmp_path), "tasks/one", 1, NONE)
    folder.save({"best_key": ""}, Best(1, 0.5, {}, {}, {}), lambda: None, lambda: None)
    folder.drain()
    assert 0.2 <= folder.state_seconds < 0.6 <= folder.best_seconds


def test_a_full_disk_is_waited_for_and_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.05)
    save, refusals = checkpoint._save, [UnavailableError("There is no space left.", "Free some."), TimeoutError(), None]

    def full(*arguments: Any) -> None:
        if refusal := refusals.pop(0):
            raise refusal
        save(*arguments)

    monkeypatch.setattr(checkpoint, "_save", full)
    said: list[str] = []
    storage = Storage(str(tmp_path))
    folder = CheckpointFolder(storage, "tasks/one", 1, Patience(lambda message, _: said.append(message), lambda: False))
    done: list[bool] = []
    folder.save({"best_key": "", "state": {}}, None, lambda: done.append(True), lambda: None)
    folder.drain()
    folder.close()
    assert done and refusals == [] and storage.list("tasks") == ["tasks/one/state-1.pt"]
    assert len(said) == 1 and "There is no space left. It is tried again for 1 hour" in said[0]


@pytest.mark.timeout(30)
def test_whoever_is_told_to_stop_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise UnavailableError("There is no space left.", "Free some.")

    monkeypatch.setattr(checkpoint, "_save", full)
    wanted: list[str] = []
    folder = CheckpointFolder(Storage(str(tmp_path)), "tasks/one", 1, Patience(lambda *_: wanted.append("pause"), lambda: bool(wanted)))
    folder.save({"best_key": "", "state": {}}, None, lambda: None, lambda: None)
    with pytest.raises(UnavailableError):
        folder.drain()
    folder.close()


class SmallDisk(io.RawIOBase):
    """A file on a disk with room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if len(data) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(data)
        return len(data)


@pytest.mark.parametrize("room", [0, 1_000, 100_000])
def test_a_disk_that_fills_up_while_weights_are_written_is_a_full_disk(tmp_path: Path, room: int) -> None:
    """Of which torch says something else once it has written some."""
    with pytest.raises(UnavailableError, match="no space left"), Storage(str(tmp_path)).writing("a"):
        torch.save({"one": torch.zeros(4_000_000)}, SmallDisk(room))


@pytest.mark.timeout(30)
def test_whoever_lost_the_job_while_it_waited_writes_and_deletes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.05)
    storage, save, lost = Storage(str(tmp_path)), checkpoint._save, []

    def fence() -> bool:
        if lost:
            raise FencedError
        return False

    def full(*_: Any) -> None:
        raise UnavailableError("There is no space left.", "Free some.")

    storage.write("tasks/one/best-1-1.pt", b"which its successor goes on from")
    folder = CheckpointFolder(storage, "tasks/one", 1, Patience(lambda *_: lost.append(True), fence), fence)
    monkeypatch.setattr(checkpoint, "_save", full)
    folder.save({"best_key": "", "state": {}}, None, lambda: None, lambda: None)
    with pytest.raises(FencedError):
        folder.drain()
    monkeypatch.setattr(checkpoint, "_save", save)  # as where a host was asleep while it wrote
    folder.save({"best_key": "", "state": {}}, None, lambda: None, lambda: None)
    with pytest.raises(FencedError):
        folder.drain()
    folder.close()
    assert storage.exists("tasks/one/best-1-1.pt")


def test_a_checkpoint_is_waited_for_where_the_storage_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.05)
    storage, said = Storage(str(tmp_path)), []
    folder = CheckpointFolder(storage, "tasks/one", 1, NONE)
    folder.save({"best_key": "", "state": {"epoch": 7}}, None, lambda: None, lambda: None)
    folder.drain()
    read, refusals = checkpoint._read, [TimeoutError(), ConnectionResetError()]

    def away(*arguments: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return read(*arguments)

    monkeypatch.setattr(checkpoint, "_read", away)
    patience = Patience(lambda message, _: said.append(message), lambda: False)
    loaded = CheckpointFolder(storage, "tasks/one", 2, patience).load()
    assert loaded is not None and loaded["state"] == {"epoch": 7}
    assert len(said) == 1 and said[0].startswith("The checkpoint cannot be read: The storage fails (ConnectionResetError).")


def test_what_does_not_pass_is_raised_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(checkpoint, "_save", forbidden)
    folder = CheckpointFolder(Storage(str(tmp_path)), "tasks/one", 1, NONE)
    folder.save({"best_key": "", "state": {}}, None, lambda: None, lambda: None)
    with pytest.raises(PermissionError):
        folder.drain()
    folder.close()


@pytest.mark.parametrize("fails", ["list", "delete"])
def test_an_epoch_that_is_safe_is_told_though_older_files_cannot_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Else the model would be of an epoch that nobody has heard of, or a complete checkpoint would go with its job."""

    def forbidden(*_: Any) -> None:
        raise PermissionError("no")

    storage, told = Storage(str(tmp_path)), list[int]()
    folder = CheckpointFolder(storage, "tasks/one", 1, NONE)

    def write(epoch: int) -> None:
        key = folder.best_key(epoch)
        folder.save({"best_key": key, "state": {}}, Best(epoch, 0.5, {}, {}, {}), lambda: told.append(epoch), lambda: None)
        folder.drain()

    write(1)
    with monkeypatch.context() as broken:
        broken.setattr(Storage, fails, forbidden)
        write(2)
    found = checkpoint.newest(storage, "tasks/one")
    assert told == [1, 2] and found is not None and found.best is not None and found.best.epoch == 2
    write(3)
    folder.close()
    assert storage.list("tasks/one") == ["tasks/one/best-1-3.pt", "tasks/one/state-1.pt"]


def test_a_worker_that_was_taken_over_cannot_take_the_best_weights_along(tmp_path: Path) -> None:
    """It does not know it yet, and writes and deletes what is its own."""
    storage = Storage(str(tmp_path))
    old, new = CheckpointFolder(storage, "tasks/one", 1, NONE), CheckpointFolder(storage, "tasks/one", 2, NONE)

    def write(folder: CheckpointFolder, epoch: int, best_key: str, best: Best | None = None) -> None:
        state = {"best_epoch": epoch, "best_key": best_key}
        folder.save({"best_key": best_key, "state": state}, best, lambda: None, lambda: None)
        folder.drain()

    write(old, 5, old.best_key(5), Best(5, 0.5, {}, {"w": torch.ones(1)}, {}))
    loaded = new.load()
    write(old, 6, old.best_key(6), Best(6, 0.6, {}, {"w": torch.zeros(1)}, {}))
    write(new, 5, loaded["best_key"])
    found = checkpoint.newest(storage, "tasks/one")
    assert found is not None and found.best is not None and (found.best.epoch, float(found.best.weights["w"])) == (5, 1.0)
    assert loaded["state"]["best_key"] == loaded["best_key"]


def regrouped(network: nn.Module, *, reverse: bool) -> torch.optim.Optimizer:
    weights = list(network.parameters())
    return torch.optim.AdamW([{"params": [weight]} for weight in (weights[::-1] if reverse else weights)], 0.1)


def test_the_optimizer_s_state_follows_its_weights_whatever_their_order() -> None:
    """Another version may group them otherwise: moments of other shapes ended the process in its fused step."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1))
    before = regrouped(network, reverse=False)
    step(network, before)
    packed = pack(State(1), network, before, None)
    after = regrouped(network, reverse=True)
    unpack_weights(packed, network, after, None)
    for weight in network.parameters():
        assert torch.equal(after.state[weight]["exp_avg"], before.state[weight]["exp_avg"])
    step(network, after)
    # A checkpoint of a version that wrote no names, and grouped otherwise: the optimizer begins anew.
    del packed["optimized"]
    unpack_weights(packed, network, again := regrouped(network, reverse=True), None)
    assert not again.state
    unpack_weights(packed, network, same := regrouped(network, reverse=False), None)
    assert len(same.state) == 4
