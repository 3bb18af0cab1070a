"""What a work-horse does before it trains, or before others do."""

from pathlib import Path
from typing import Any

import pytest
import torch

from core.zoo.devices import host_device
from worker.jobs import _device_name


def test_whoever_only_waits_for_others_touches_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first question to torch.cuda opens a context: half a gigabyte of the GPU that the leader trains on."""

    def touched(*_: Any) -> Any:
        raise AssertionError("torch was asked of a GPU")

    for question in ("is_available", "current_device", "get_device_name", "get_device_capability", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, question, touched)
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$1" = -L ] || printf "0, GPU-a, 8192, NVIDIA A\\n1, GPU-b, 8192, NVIDIA A\\n"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    host_device.cache_clear()
    try:
        assert _device_name(2) == "2 × NVIDIA A"
    finally:
        host_device.cache_clear()
