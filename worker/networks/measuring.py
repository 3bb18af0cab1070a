"""Facts of a network, measured without computing anything: on PyTorch's meta device tensors have shapes but no numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

SIZES = (32, 64, 96, 128, 160, 192, 224, 256)  # starts that are tried for the smallest side
MULTIPLES = (1, 2, 4, 8, 14, 16, 28, 32, 64)

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


def measure(builder: Builder, input_size: int, forward: Forward = lambda network, images: network(images)) -> Measured:
    """Build on the meta device, run one image forward, and find out which sides work."""
    with torch.device("meta"):
        network = builder(None).eval()
    gmacs, memory = work_and_memory(network, input_size, forward)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    smallest, multiple = accepted_sizes(lambda side: forward(network, torch.empty(1, 3, side, side, device="meta")), input_size)
    if smallest:
        return Measured(parameters, gmacs, memory, smallest, multiple, fixed_size=False, sized_at_build=False)

    def build_and_run(side: int) -> None:
        with torch.device("meta"):
            forward(builder(side).eval(), torch.empty(1, 3, side, side, device="meta"))

    patch = patch_size(network)  # pixels beyond the last whole patch are silently dropped: only whole patches count
    smallest, multiple = accepted_sizes(
        build_and_run, input_size, [multiple for multiple in MULTIPLES if multiple % patch == 0 and multiple >= 8]
    )
    return Measured(parameters, gmacs, memory, smallest or input_size, multiple, fixed_size=not smallest, sized_at_build=bool(smallest))


def work_and_memory(network: nn.Module, side: int, forward: Forward) -> tuple[float, float]:
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
        forward(network, torch.empty(1, 3, side, side, device="meta"))
    return counter.get_total_flops() / 2e9, sum(tensor.untyped_storage().nbytes() for tensor in kept) / 1e6


def patch_size(network: nn.Module) -> int:
    """Side of the patches that a transformer cuts the image into; 1 where there are none."""
    size: Any = getattr(getattr(network, "patch_embed", None), "patch_size", None) or getattr(network, "patch_size", 1)
    return int(size[0] if isinstance(size, tuple | list) else size)


def accepted_sizes(run: Callable[[int], object], input_size: int, multiples: Sequence[int] = MULTIPLES) -> tuple[int, int]:
    """The smallest side tried that works and the number that sides must divide by; (0, 1) where only `input_size` does.

    A multiple counts when three sides in a row and the next above 100 px work: chance hits (7 × 32 = 14 × 16) are so left out.
    """
    known: dict[int, bool] = {}

    def works(side: int) -> bool:
        if side not in known:
            try:
                with torch.no_grad():
                    run(side)
                known[side] = True
            except Exception:  # noqa: BLE001 - libraries refuse a size in every way there is; any of them means no
                known[side] = False
        return known[side]

    for multiple in multiples:
        if input_size % multiple:
            continue
        for start in SIZES:
            smallest = -(-start // multiple) * multiple
            sides = (smallest, smallest + multiple, smallest + 2 * multiple, (100 // multiple + 1) * multiple)
            if smallest <= input_size and all(works(side) for side in sides if side >= smallest):
                return smallest, multiple
    return 0, 1
