"""The GPUs of NVIDIA's driver that a process may use, found without torch and without a context on any of them.

What `CUDA_VISIBLE_DEVICES` may hold (CUDA programming guide, environment variables): indices; uuids as `nvidia-smi -L` prints them,
`GPU-8932f937-d72c-…`, or their beginning where that is unique; of GPUs divided into instances (MIG) those of instances, `MIG-c7384736-a75d-…`,
of drivers before R470 `MIG-GPU-8932f937-d72c-…/1/0`. What follows an entry that names nothing, -1 for one, is not seen.

A process sees one instance only, the first, and beside an instance no whole GPU (MIG user guide, "CUDA device enumeration").
"""

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

logger = logging.getLogger(__name__)

_TIMEOUT = 10  # seconds
_MEBIBYTE = 1_048_576
_LISTED_GPU = re.compile(r"GPU \d+: .* \(UUID: (?P<uuid>GPU-[^)]+)\)")
# `  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-…)`; `1c.3g.20gb` where an instance is divided again, `1g.10gb+me` with media engines
_LISTED_INSTANCE = re.compile(r"\s+MIG (?P<profile>(?:\d+c\.)?\d+g\.(?P<gigabytes>\d+)gb\S*)\s+Device\s+\d+: \(UUID: (?P<uuid>MIG-[^)]+)\)")


class Gpu(NamedTuple):
    """A GPU or an instance of one: its `name` as torch gives it, and its memory in bytes."""

    name: str
    memory_bytes: int


class _Listed(NamedTuple):
    """A GPU of the host: itself, None where its memory is not told, and its instances by uuid."""

    gpu: Gpu | None
    instances: Mapping[str, Gpu]


def visible_gpus() -> list[Gpu]:
    """What torch would find in this process, in its order; empty without the driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = None if visible is None else [name.strip() for name in visible.split(",")]
    command = shutil.which("nvidia-smi")
    if command is None or wanted in ([""], ["-1"]):
        return []
    try:
        listed = _listed(_said(command, "--query-gpu=index,uuid,memory.total,name", "--format=csv,noheader,nounits"), _said(command, "-L"))
    except (OSError, subprocess.SubprocessError, ValueError):
        logger.debug("nvidia-smi is there but says nothing", exc_info=True)
        return []
    return _seen(listed, wanted)


def _said(command: str, *arguments: str) -> str:
    # no part of it comes from people
    return subprocess.run([command, *arguments], capture_output=True, text=True, timeout=_TIMEOUT, check=True).stdout  # noqa: S603


def _listed(queried: str, names: str) -> dict[str, _Listed]:
    """All GPUs by uuid, in the order of their indices, from the answers to `--query-gpu` and to `-L`.

    Raises:
        ValueError: when a line is not as it should be.
    """
    gpus: dict[str, tuple[str, Gpu | None]] = {}
    for line in queried.splitlines():
        if line.strip():
            _, uuid, memory, name = (part.strip() for part in line.split(",", 3))
            # Not a number where memory is the host's, and in containers that may use an instance only.
            gpus[uuid] = name, Gpu(name, int(memory) * _MEBIBYTE) if memory.isdigit() else None
    instances: dict[str, dict[str, Gpu]] = {uuid: {} for uuid in gpus}
    parent = ""
    for line in names.splitlines():
        if gpu := _LISTED_GPU.match(line):
            parent = gpu["uuid"]
        elif (instance := _LISTED_INSTANCE.match(line)) and parent in gpus:
            memory_bytes = int(instance["gigabytes"]) * 1_000_000_000  # 3g.20gb has 19,968 MiB: a little more
            instances[parent][instance["uuid"]] = Gpu(f"{gpus[parent][0]} MIG {instance['profile']}", memory_bytes)
    return {uuid: _Listed(gpu, instances[uuid]) for uuid, (_, gpu) in gpus.items()}


def _seen(listed: Mapping[str, _Listed], wanted: Sequence[str] | None) -> list[Gpu]:
    """Those that are wanted, all where that is None, as a process sees them."""
    instances = {uuid: instance for one in listed.values() for uuid, instance in one.instances.items()}
    gpus: list[Gpu] = []
    parts: list[Gpu] = []
    for name in [str(index) for index in range(len(listed))] if wanted is None else wanted:
        if name.startswith("MIG-"):
            uuid = _begun(name, [*instances])
            if uuid is None:
                break
            parts.append(instances[uuid])
            continue
        uuid = _begun(name, [*listed]) if name.startswith("GPU-") else _numbered(name, [*listed])
        if uuid is None:
            break
        one = listed[uuid]
        parts += one.instances.values()
        if one.gpu is not None and not one.instances:
            gpus.append(one.gpu)
    return parts[:1] or gpus


def _begun(name: str, uuids: Sequence[str]) -> str | None:
    found = [uuid for uuid in uuids if uuid.startswith(name)]
    return found[0] if len(found) == 1 else None


def _numbered(name: str, uuids: Sequence[str]) -> str | None:
    return uuids[int(name)] if name.isdigit() and int(name) < len(uuids) else None
