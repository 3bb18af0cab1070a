"""What others ask of a worker's host: its devices, and whether a worker lives there."""

import os
import platform
import socket
from typing import Any

from core.queue import QueueName, connect, reachable, worker_count
from core.settings import Settings


def devices() -> list[dict[str, Any]]:
    """The devices a training may run on here, best first: kind, name, memory in bytes (None where it cannot be told)."""
    import torch  # seconds, which a worker that only starts spends later

    found: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        found.append({"kind": "cuda", "name": about.name, "memory_bytes": about.total_memory})
    if torch.backends.mps.is_available():
        found.append({"kind": "mps", "name": "Apple GPU", "memory_bytes": int(torch.mps.recommended_max_memory())})
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found.append({"kind": "cpu", "name": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores", "memory_bytes": memory})
    return found


def alive_here(settings: Settings, kind: QueueName) -> bool:
    """Whether a worker of that kind on this host, which in a container is the container, has shown itself lately.

    Raises:
        UnavailableError: when the queue cannot be reached.
    """
    redis = connect(settings)
    try:
        with reachable():
            return worker_count(redis, settings, kind, host=socket.gethostname()) > 0
    finally:
        redis.close()
