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


def available_memory() -> int:
    """Bytes that this process could take now before the system has to swap or to kill: of the host's memory, or of its control group's.

    Cached files count as free: they make room. Where the host does not tell (macOS), it is all the memory there is.
    """
    free = (_number("/proc/meminfo", "MemAvailable:") or 0) * 1024 or usable_memory()  # told in kB
    limit, used = _control_group("memory.max"), _control_group("memory.current")
    if not (limit.isdigit() and used.isdigit()):
        return free
    # linux/Documentation/admin-guide/cgroup-v2.rst, memory.stat: pages of files, without those of shared memory.
    statistics = dict(line.split() for line in _control_group("memory.stat").splitlines() if len(line.split()) == 2)
    cached = sum(int(statistics.get(name, 0)) for name in ("inactive_file", "active_file"))
    return max(0, min(free, int(limit) - int(used) + cached))


def out_of_memory_kills() -> int | None:
    """How many processes the system has killed since it runs because memory ran out; None where it does not tell (macOS)."""
    return _number("/proc/vmstat", "oom_kill ")


def _number(file: str, name: str) -> int | None:
    """What stands behind the name in a file of lines; None where there is no such line, or no such file, as outside Linux."""
    try:
        lines = Path(file).read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), None)


def _control_group(name: str) -> str:
    try:
        return (Path("/sys/fs/cgroup") / name).read_text(encoding="ascii").strip()
    except OSError:  # not Linux, or no control groups of the second kind
        return ""
