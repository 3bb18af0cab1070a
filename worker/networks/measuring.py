"""Facts of a network, measured without computing anything: on PyTorch's meta device tensors have shapes but no numbers."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

SMALLEST_SIDES = (32, 64, 96, 128)  # tried in this order
MEASURED_SIDE = 128
ODD_SIDE = 101

Builder = Callable[[int | None], nn.Module]  # given the side to build for, or None for the network's own
Forward = Callable[[nn.Module, Tensor], object]


@dataclass(frozen=True)
class Measured:
    """Parameters (a count), GMACs and MB of activations kept for the backward pass of one fp32 image, and the sides it takes."""

    parameters: int
    gmacs: float
    memory_mb: float
    min_size: int
    size_multiple: int
    fixed_size: bool
    sized_at_build: bool


class TooLargeError(Exception):
    """The network has more parameters than the zoo lists."""


class Memory:
    """What was measured before, by network, kept in a file so that a rebuild that is stopped, or that only changes weights, need not measure again."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.known: dict[str, Measured] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                name, facts = json.loads(line)
                self.known[name] = Measured(**facts)

    def measure(self, name: str, *arguments: Any, **options: Any) -> Measured:
        """As the module's `measure`, once for each name."""
        if name not in self.known:
            self.known[name] = measure(*arguments, **options)
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([name, asdict(self.known[name])]) + "\n")
        return self.known[name]


def measure(
    builder: Builder,
    input_size: int,
    forward: Forward = lambda network, images: network(images),
    *,
    sizes: tuple[int, int] | EllipsisType | None = ...,
    device: str = "meta",
    most_parameters: int = 0,
) -> Measured:
    """Build on the meta device, run one image forward, and find out which sides work.

    `sizes` says them where they are known: the smallest and the step, or None for `input_size` only. `device` is cpu for networks that compute
    with numbers while they are built or run.

    Raises:
        TooLargeError: when the network has more than `most_parameters`, where that is given.
    """
    with torch.device(device):
        network = builder(None).eval()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if most_parameters and parameters > most_parameters:
        raise TooLargeError(f"more than {most_parameters // 1_000_000} million parameters")

    def at(side: int, made_for: nn.Module = network) -> tuple[float, float]:
        """Work and memory at `input_size`, measured at `side`: both grow with the area, and small is quick."""
        gmacs, memory = work_and_memory(made_for, side, forward, device)
        return gmacs * (input_size / side) ** 2, memory * (input_size / side) ** 2

    if sizes is not ...:
        smallest, multiple = sizes or (input_size, 1)
        return Measured(parameters, *at(input_size), smallest, multiple, fixed_size=sizes is None, sized_at_build=False)
    for smallest in SMALLEST_SIDES:
        # One odd side and one small: what takes both takes any.
        if _works(lambda side: forward(network, torch.empty(1, 3, side, side, device=device)), ODD_SIDE, smallest):
            return Measured(parameters, *at(min(MEASURED_SIDE, input_size)), smallest, 1, fixed_size=False, sized_at_build=False)
        if _works(lambda side: forward(network, torch.empty(1, 3, side, side, device=device)), MEASURED_SIDE + 32, smallest):
            return Measured(parameters, *at(min(MEASURED_SIDE, input_size)), smallest, 32, fixed_size=False, sized_at_build=False)
    # Pixels beyond the last whole patch are silently dropped, so only whole patches count.
    patch = patch_size(network)
    multiple = patch if patch >= 8 else 32
    small = MEASURED_SIDE // multiple * multiple
    try:
        if input_size % multiple:
            raise ValueError("its own size is no multiple of its patches: no other is to be trusted")
        with torch.device(device):
            made_small = builder(small).eval()
        return Measured(parameters, *at(small, made_small), small // 2, multiple, fixed_size=False, sized_at_build=True)
    except Exception:  # noqa: BLE001 - libraries refuse a size in every way there is
        return Measured(parameters, *at(input_size), input_size, 1, fixed_size=True, sized_at_build=False)


def _works(run: Callable[[int], object], *sides: int) -> bool:
    try:
        with torch.no_grad():
            for side in sides:
                run(side)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def work_and_memory(network: nn.Module, side: int, forward: Forward, device: str = "meta") -> tuple[float, float]:
    """GMACs of one image, and MB that autograd keeps for its backward pass (parameters and buffers left out)."""
    seen = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    kept: list[Tensor] = []  # keeps them alive, so that no storage's address is used twice

    def keep(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage()._cdata
        if address not in seen:
            seen.add(address)
            kept.append(tensor)
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward(network, torch.empty(1, 3, side, side, device=device))
    return counter.get_total_flops() / 2e9, sum(tensor.untyped_storage().nbytes() for tensor in kept) / 1e6


def patch_size(network: nn.Module) -> int:
    """Side of the patches that a transformer cuts the image into; 1 where there are none."""
    size: Any = getattr(getattr(network, "patch_embed", None), "patch_size", None) or getattr(network, "patch_size", 1)
    return int(size[0] if isinstance(size, tuple | list) else size)
