"""Which GPUs a process sees, by what `CUDA_VISIBLE_DEVICES` says and what a stand-in of `nvidia-smi` answers."""

import stat
from pathlib import Path

import pytest

from core.zoo.devices import host_device
from core.zoo.nvidia import visible_gpus

A, B, C = "GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0", "GPU-e86c0000-d72c-4106-c12f-20bd9faed9f6", "GPU-5ebe9f43-8e0a-4b5e-9d0c-aa0000000000"
FIRST, SECOND = "MIG-c7384736-a75d-5afc-978f-d2f1294409fd", "MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d"
WHOLE = f"0, {A}, 40960, NVIDIA A100-SXM4-40GB\n1, {B}, 81920, NVIDIA H100, with a comma\n"
NAMES = f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})\nGPU 1: NVIDIA H100, with a comma (UUID: {B})\n"
DIVIDED = f"0, {A}, 40960, NVIDIA A100-SXM4-40GB\n1, {C}, 40960, NVIDIA A100-SXM4-40GB\n"
DIVIDED_NAMES = (
    f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})\n"
    f"GPU 1: NVIDIA A100-SXM4-40GB (UUID: {C})\n"
    f"  MIG 3g.20gb     Device  0: (UUID: {FIRST})\n"
    f"  MIG 1c.3g.20gb  Device  1: (UUID: {SECOND})\n"
)
A100, H100 = "NVIDIA A100-SXM4-40GB", "NVIDIA H100, with a comma"


def answer(monkeypatch: pytest.MonkeyPatch, folder: Path, queried: str, names: str, visible: str | None) -> None:
    """A driver that says this of its GPUs, and an environment that shows some of them."""
    (folder / "queried").write_text(queried)
    (folder / "names").write_text(names)
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\nif [ "$1" = -L ]; then cat "{folder}/names"; else cat "{folder}/queried"; fi\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, [A100, H100]),
        ("1", [H100]),
        (f"{B},0", [H100, A100]),
        ("GPU-e86cb", [A100]),
        ("GPU-e86c", []),  # two begin so: CUDA sees none
        ("0,7,1", [A100]),  # nothing is seen after what there is not
        ("0,-1,1", [A100]),
        ("0,GPU-none,1", [A100]),
        (FIRST, []),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),  # as a job scheduler writes it where a job has asked for no GPU
    ],
)
def test_whole_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str | None, found: list[str]) -> None:
    answer(monkeypatch, tmp_path, WHOLE, NAMES, visible)
    assert [gpu.name for gpu in visible_gpus()] == found


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (FIRST, ["MIG 3g.20gb"]),
        (SECOND, ["MIG 1c.3g.20gb"]),
        ("MIG-a28ad590", ["MIG 1c.3g.20gb"]),
        (f"{SECOND},{FIRST}", ["MIG 1c.3g.20gb"]),  # one instance is all that a process sees
        (f"0,{FIRST}", ["MIG 3g.20gb"]),  # and beside it no whole GPU
        ("1", ["MIG 3g.20gb"]),
        (C, ["MIG 3g.20gb"]),
        (None, ["MIG 3g.20gb"]),
        ("0", [""]),
        ("MIG-none", []),
    ],
)
def test_gpus_divided_into_instances(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str | None, found: list[str]) -> None:
    answer(monkeypatch, tmp_path, DIVIDED, DIVIDED_NAMES, visible)
    gpus = visible_gpus()
    assert [gpu.name for gpu in gpus] == [f"{A100} {name}".strip() for name in found]
    assert [gpu.memory_bytes for gpu in gpus] == [20_000_000_000 if name else 40_960 * 2**20 for name in found]


def test_instances_as_older_drivers_name_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = f"MIG-{A}/2/0"
    names = f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})\n  MIG 1g.5gb Device 0: (UUID: MIG-{A}/1/0)\n  MIG 2g.10gb Device 1: (UUID: {old})\n"
    answer(monkeypatch, tmp_path, f"0, {A}, 40960, NVIDIA A100-SXM4-40GB\n", names, old)
    assert visible_gpus() == [(f"{A100} MIG 2g.10gb", 10_000_000_000)]


def test_a_container_that_may_use_an_instance_is_told_nothing_of_the_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})\n  MIG 3g.20gb     Device  0: (UUID: {FIRST})\n"
    answer(monkeypatch, tmp_path, f"0, {A}, [Insufficient Permissions], NVIDIA A100-SXM4-40GB\n", names, None)
    assert visible_gpus() == [(f"{A100} MIG 3g.20gb", 20_000_000_000)]


def test_a_worker_s_device_is_the_instance_it_may_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer(monkeypatch, tmp_path, DIVIDED, DIVIDED_NAMES, f"{FIRST},{SECOND}")
    found = host_device.__wrapped__(2)
    assert (found.kind, found.name, found.memory_bytes, found.per_job) == ("cuda", f"{A100} MIG 3g.20gb", 20_000_000_000, 1)
