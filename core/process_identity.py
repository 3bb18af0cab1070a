"""Which process somebody is, said so that others on the same host can prove it dead: pids alone are reused."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessIdentity:
    """One process in all the world. `boot`, `namespace` and `start` are empty where the system does not tell (no /proc)."""

    host: str
    boot: str  # changes with each boot of the kernel
    namespace: str  # pids mean something only within one
    pid: int
    start: str  # in clock ticks since boot: another process with the same pid has another

    def __str__(self) -> str:
        return "|".join((self.host, self.boot, self.namespace, str(self.pid), self.start))

    @classmethod
    def parse(cls, text: str) -> "ProcessIdentity | None":
        """The identity that `str()` wrote; None for anything else."""
        parts = text.rsplit("|", 4)
        if len(parts) != 5 or not parts[3].isdecimal():
            return None
        return cls(parts[0], parts[1], parts[2], int(parts[3]), parts[4])


def own_identity() -> str:
    """The identity of this process, as text for the database."""
    host, boot, namespace = _surroundings()
    return str(ProcessIdentity(host, boot, namespace, os.getpid(), _start(os.getpid()) or ""))


def is_provably_dead(identity: str) -> bool:
    """Whether the process has certainly ended. False also where that cannot be told: another host, another container."""
    process = ProcessIdentity.parse(identity)
    if process is None or (process.host, process.boot, process.namespace) != _surroundings():
        return False
    if process.boot:
        return _start(process.pid) != process.start
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _surroundings() -> tuple[str, str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux
        return socket.gethostname(), "", ""
    return socket.gethostname(), boot, namespace


def _start(pid: int) -> str | None:
    """When the process started; None where there is none, or only its remains (a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in parentheses, may itself hold spaces and parentheses: what follows its last one is state, then 18 more, then the start.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
