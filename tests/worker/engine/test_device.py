"""Which device a job trains on, and what is asked of it there. No GPU is at hand: torch's answers are stood in for."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from worker.engine.device import Device, choose_device

APPLE = Device(torch.device("mps"), "Apple GPU", False)
NVIDIA = Device(torch.device("cuda", 0), "NVIDIA H200", True)


@pytest.fixture(autouse=True)
def _settings_of_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    yield
    torch.set_float32_matmul_precision(precision)
    torch.set_num_threads(threads)


def has(monkeypatch: pytest.MonkeyPatch, *, cuda: tuple[int, int] | None = None, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(("capability", "bf16"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_comes_first_and_computes_in_bfloat16_where_it_can(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], bf16: bool
) -> None:
    has(monkeypatch, cuda=capability, mps=True)
    assert choose_device(2) == Device(torch.device("cuda", 1), "GPU 1", bf16)
    assert torch.backends.cudnn.benchmark and torch.get_float32_matmul_precision() == "high"


def test_apples_gpu_trains_alone_and_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, mps=True)
    device = choose_device()
    assert (device.kind, device.bf16, device.is_cpu, device.is_cuda) == ("mps", False, False, False)
    assert choose_device(processes=2).is_cpu, "several processes would share the one GPU"


def test_processes_of_one_job_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch)
    monkeypatch.setattr("worker.engine.device.usable_cores", lambda: 8)
    assert choose_device(2).name == "CPU, 4 cores" and torch.get_num_threads() == 4
    assert choose_device(16).name == "CPU, 1 core"


@pytest.mark.parametrize(("device", "free"), [(APPLE, 7_000), (NVIDIA, 9_000)])
def test_a_gpu_is_asked_for_its_own_memory(monkeypatch: pytest.MonkeyPatch, device: Device, free: int) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10_000)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 3_000)
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: forgotten.append("mps"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda which: (9_000, 20_000))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda which: 11_000)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: forgotten.append("cuda"))
    assert device.free_bytes() == free
    assert device.holds(0.5, free // 2) and not device.holds(0.5, free // 2 + 1)
    assert device.peak_bytes() == {"mps": 3_000, "cuda": 11_000}[device.kind]
    device.forget_cached_memory()
    assert forgotten == [device.kind]


def test_the_cpus_memory_is_never_taken_for_a_whole_set() -> None:
    cpu: Any = Device(torch.device("cpu"), "CPU", False)
    assert not cpu.holds(1.0, 1) and cpu.free_bytes() > 1_000_000 and cpu.peak_bytes() > 10_000_000
