"""What can be trained on: this host's device, found without importing torch, and what the gpu workers have said of theirs."""

import platform
from dataclasses import replace
from datetime import timedelta
from functools import cache

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.clock import now
from core.db.tables import WorkerDevice
from core.host_limits import usable_cores, usable_memory
from core.process_identity import is_provably_dead
from core.zoo.facts import DeviceFacts
from core.zoo.nvidia import visible_gpus

SILENT = timedelta(minutes=10)  # a worker that has not shown itself for so long is not counted on
FORGOTTEN = timedelta(days=1)
MPS_SHARE = 0.7  # of a Mac's memory that its GPU may use, about what Metal recommends


@cache
def host_device(devices_per_job: int = 1) -> DeviceFacts:
    """The first GPU that this process may use, with so many like it that train a job together, else the CPU with what this process may have of it.

    Asked once: GPUs do not come and go.
    """
    gpus = visible_gpus()
    if gpus:
        name, memory = gpus[0]
        together = min(devices_per_job, len(gpus))
        # Named as jobs name what they were trained on: so past ones are found.
        return DeviceFacts("cuda", memory, usable_cores(), 1, f"{together} × {name}" if together > 1 else name, together)
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return DeviceFacts("mps", int(MPS_SHARE * usable_memory()), usable_cores(), 1, "Apple GPU")
    return DeviceFacts("cpu", usable_memory(), usable_cores(), 1, "CPU")


def count_in(name: str) -> int:
    """How many devices together a job was trained on, by the name of what it was trained on: 2 of `2 × NVIDIA H200`."""
    number, together, _ = name.partition(" × ")
    return int(number) if together and number.isdecimal() else 1


def is_cpu(name: str) -> bool:
    """Whether a job was trained on processors, by the name of what it was trained on, such as `2 × CPU, 4 cores`."""
    return name.rpartition(" × ")[2].startswith("CPU")


def show(session: Session, worker: str, device: DeviceFacts) -> None:
    """A gpu worker, by its identity, says what it trains on; said again every minute, and forgotten a day after the last time."""
    session.merge(
        WorkerDevice(
            worker=worker,
            kind=device.kind,
            name=device.name,
            memory_bytes=device.memory_bytes,
            cores=device.cores,
            per_job=device.per_job,
            seen_at=now(),
        )
    )
    session.execute(delete(WorkerDevice).where(WorkerDevice.seen_at < now() - FORGOTTEN))


def workers_device(session: Session) -> DeviceFacts:
    """What to plan with: the least of the living gpu workers' devices, because any of them may take a job; without any, this host's.

    A CPU is less than a GPU. `count` is how many workers there are.
    """
    rows = session.scalars(select(WorkerDevice).where(WorkerDevice.seen_at > now() - SILENT)).all()
    found = [
        DeviceFacts(row.kind, row.memory_bytes, row.cores, 1, row.name, row.per_job) for row in rows if not is_provably_dead(row.worker)
    ]
    if not found:
        return host_device()
    return replace(
        min(found, key=lambda device: (device.kind != "cpu", device.per_job * device.memory_bytes, device.cores)), count=len(found)
    )
