"""What this host can train on, found without importing torch."""

import logging
import os
import shutil
import subprocess
from functools import cache

from core.zoo.facts import DeviceFacts

logger = logging.getLogger(__name__)


@cache
def host_device() -> DeviceFacts:
    """The first GPU that NVIDIA's driver names, else the CPU with the memory of the host. Asked once a process: GPUs do not come and go."""
    gpus = _gpus()
    if gpus:
        name, memory = gpus[0]
        return DeviceFacts("cuda", memory, _cores(), len(gpus), name)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return DeviceFacts("cpu", memory, _cores(), 1, "CPU")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[tuple[str, int]]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        answer = subprocess.run(  # noqa: S603 - no part of it comes from people
            [command, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        rows = [line.rsplit(",", 1) for line in answer.stdout.splitlines() if line.strip()]
        return [(name.strip(), int(memory) * 1_048_576) for name, memory in rows]
    except (OSError, subprocess.SubprocessError, ValueError):
        logger.debug("nvidia-smi is there but says nothing", exc_info=True)
        return []
