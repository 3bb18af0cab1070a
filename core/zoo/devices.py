"""What can be trained on: this host's device, found without importing torch, and what the gpu workers have said of theirs."""

import logging
import os
import platform
import shutil
import subprocess
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

logger = logging.getLogger(__name__)

SILENT = timedelta(minutes=10)  # a worker that has not shown itself for so long is not counted on
FORGOTTEN = timedelta(days=1)
MPS_SHARE = 0.7  # of a Mac's memory that its GPU may use, about what Metal recommends


@cache
def host_device(devices_per_job: int = 1) -> DeviceFacts:
    """The first GPU that this process may use, with so many like it that train a job together, else the CPU with what this process may have of it.

    Asked once: GPUs do not come and go.
    """
    gpus = _gpus()
    if gpus:
        name, memory = gpus[0]
        together = min(devices_per_job, len(gpus))
        # Named as jobs name what they were trained on: so past ones are found.
        return DeviceFacts("cuda", memory, usable_cores(), 1, f"{together} × {name}" if together > 1 else name, together)
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return DeviceFacts("mps", int(MPS_SHARE * usable_memory()), usable_cores(), 1, "Apple GPU")
    return DeviceFacts("cpu", usable_memory(), usable_cores(), 1, "CPU")


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


def _gpus() -> list[tuple[str, int]]:
    """Name and memory of each GPU that NVIDIA's driver names and `CUDA_VISIBLE_DEVICES` lets this process use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = None if visible is None else [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    command = shutil.which("nvidia-smi")
    if command is None or wanted == []:
        return []
    try:
        answer = subprocess.run(  # noqa: S603 - no part of it comes from people
            [command, "--query-gpu=index,uuid,memory.total,name", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        found = {}
        for line in answer.stdout.splitlines():
            if line.strip():
                index, uuid, memory, name = (part.strip() for part in line.split(",", 3))
                found[index] = found[uuid] = (name, int(memory) * 1_048_576)
    except (OSError, subprocess.SubprocessError, ValueError):
        logger.debug("nvidia-smi is there but says nothing", exc_info=True)
        return []
    if wanted is None:
        return [gpu for key, gpu in found.items() if key.isdigit()]
    return [found[key] for key in wanted if key in found]
