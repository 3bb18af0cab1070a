"""The device a job trains on, and what it is good at."""

import copy
import ctypes
import dataclasses
import platform
import resource
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from numpy.typing import NDArray

from core.host_limits import available_memory, usable_cores

# malloc.h of the GNU C library
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@dataclass(frozen=True)
class Device:
    """One device. `bf16` says whether autocast to bfloat16 pays there; `name` is for people."""

    torch: torch.device
    name: str
    bf16: bool

    @property
    def is_cpu(self) -> bool:
        """Whether it is the host itself."""
        return self.torch.type == "cpu"

    @property
    def is_cuda(self) -> bool:
        """Whether it is an NVIDIA or AMD GPU."""
        return self.torch.type == "cuda"

    @property
    def kind(self) -> str:
        """As `core.zoo.facts.DeviceFacts` names it."""
        return self.torch.type

    def free_bytes(self) -> int:
        """Memory in bytes that is still to be had: of a GPU its own, of the CPU the host's, or what its control group leaves of that."""
        if self.is_cuda:
            return int(torch.cuda.mem_get_info(self.torch)[0])
        if self.torch.type == "mps":
            return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
        return available_memory()

    def holds(self, share: float, amount: int) -> bool:
        """Whether so many bytes may stay on it beside the training, of which they may take that share of what is free; never on the CPU."""
        return not self.is_cpu and amount <= share * self.free_bytes()

    def peak_bytes(self) -> int:
        """The most memory that this process has held so far: a GPU's without its context, of the host the whole process."""
        if self.is_cuda:
            return int(torch.cuda.max_memory_reserved(self.torch))
        if self.torch.type == "mps":
            return int(torch.mps.driver_allocated_memory())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak) * (1 if platform.system() == "Darwin" else 1024)

    def forget_cached_memory(self) -> None:
        """Give unused cached memory back, after an allocation has failed."""
        if self.is_cuda:
            torch.cuda.empty_cache()
        elif self.torch.type == "mps":
            torch.mps.empty_cache()


def sent(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """An array on the device. A CUDA device is not waited for: it fetches the values from pinned memory when it comes to them.

    Elsewhere copies are waited for: MPS would read from the host's memory after it has been given back.
    """
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@lru_cache(maxsize=256)
def constant(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Some numbers on the device, sent there once: making a tensor of them there each time would wait for all that the device has to do."""
    with torch.inference_mode(False):  # it serves training, too
        return torch.tensor(values, device=device)


def on_host(value: Any) -> Any:
    """Nested values, dataclasses among them, with their tensors on the host."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: on_host(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(on_host(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        moved = copy.copy(value)
        for one in dataclasses.fields(value):
            object.__setattr__(moved, one.name, on_host(getattr(value, one.name)))
        return moved
    return value


def choose_device(processes: int = 1) -> Device:
    """The best device of this host: CUDA, then MPS, then the CPU. Where so many `processes` train at one job, they share the cores.

    bfloat16 autocast is used on CUDA devices that compute in it natively (compute capability 8.0 and up). Not on CPUs: with
    AVX512-BF16 (EPYC 9005, torch 2.15) tf_efficientnet_lite0 at 64 px trained at 137 images/s in bfloat16 and 314 in float32,
    because depthwise convolutions have no fast bfloat16 backward there.
    """
    if torch.cuda.is_available():
        index = torch.cuda.current_device()
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        return Device(torch.device("cuda", index), torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index) >= (8, 0))
    if torch.backends.mps.is_available() and processes == 1:
        return Device(torch.device("mps"), "Apple GPU", False)
    cores = max(1, usable_cores() // processes)
    torch.set_num_threads(cores)
    keep_freed_memory()
    return Device(torch.device("cpu"), f"CPU, {cores} core{'s' if cores != 1 else ''}", False)


def keep_freed_memory() -> bool:
    """Have this process keep the memory that it frees and use it again, as torch does on GPUs; returns whether the C library can.

    By default the GNU C library maps each large array anew and gives it back when it is freed, so that every step faults in and clears
    all its memory: a third of the processor time of training tf_efficientnet_lite0 at 128 px (2.2 s a step of 64 images instead of 1.6).
    The process then stays as large as it has once been; work-horses end with their job.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
