"""What of its host this process may use: cores and memory, as its affinity and its control group (a container's limits) say."""

import os
from pathlib import Path


def usable_cores() -> int:
    """Cores: those of its affinity, or fewer where its control group has a quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _control_group("cpu.max").partition(" ")
    return min(cores, max(1, round(int(quota) / int(period)))) if quota.isdigit() and period.isdigit() else cores


def usable_memory() -> int:
    """Bytes: the host's memory, or less where its control group has a limit."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _control_group("memory.max")
    return min(whole, int(limit)) if limit.isdigit() else whole


def _control_group(name: str) -> str:
    try:
        return (Path("/sys/fs/cgroup") / name).read_text(encoding="ascii").strip()
    except OSError:  # not Linux, or no control groups of the second kind
        return ""
