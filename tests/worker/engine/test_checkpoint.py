"""Copies for checkpoints: what was copied changes no more, lies as it lay, and takes its memory once."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core.storage import Storage
from worker.engine import checkpoint
from worker.engine.checkpoint import Best, CheckpointFolder, Copies


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
    folder = CheckpointFolder(storage, "tasks/one", 1)

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
    folder = CheckpointFolder(Storage(tmp_path), "tasks/one", 1)
    folder.save({"best_key": ""}, Best(1, 0.5, {}, {}, {}), lambda: None, lambda: None)
    folder.drain()
    assert 0.2 <= folder.state_seconds < 0.6 <= folder.best_seconds
