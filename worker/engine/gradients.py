"""The sum of gradients over the processes of a team, begun while the backward pass is still under way.

As torch's DistributedDataParallel has it (Li et al. 2020): gradients go into buckets in the order in which the backward pass comes to them, from
the last layers to the first, and the sum of a full bucket runs beside the rest of the pass. Unlike there, a process that fails within its pass
still takes part in all sums, so that nobody waits for it and all can try again.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed import Work

BUCKET_BYTES = 25_000_000  # of gradients summed at once, as DistributedDataParallel's default


class GradientSums:
    """Sums the gradients of a network's trained weights, step after step: `begin`, `last_pass`, `launch_rest`, and `finish` or the next `begin`.

    Every process has to launch the same buckets in the same order, and does: one after another, however they fill. `launch` begins the sum of
    a tensor over all processes, in place; `agree` makes each of the flags in a tensor of bytes one where it is one for any process.
    """

    def __init__(self, network: nn.Module, launch: Callable[[Tensor], Work], agree: Callable[[Tensor], None]) -> None:
        self.network = network
        self._begin_sum, self._agree = launch, agree
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._buckets = list(buckets(trained[::-1]))
        self._flat = [
            torch.zeros(sum(one.numel() for one in bucket), dtype=bucket[0].dtype, device=bucket[0].device) for bucket in self._buckets
        ]
        # In memory as the weights are, and their gradients: else each copy would turn convolutions' channels.
        self._views = [
            [_laid_out_as(one, part) for one, part in zip(bucket, views(flat, bucket), strict=True)]
            for flat, bucket in zip(self._flat, self._buckets, strict=True)
        ]
        self._bucket_of = {parameter: number for number, bucket in enumerate(self._buckets) for parameter in bucket}
        self._lacking: list[int] = []  # of each bucket how many gradients the last pass has yet to give; empty before it
        self._under_way: list[Work] = []  # of the first buckets
        for parameter in trained:
            parameter.register_post_accumulate_grad_hook(self._arrived)  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """A step begins; sums of one that has failed are waited for and forgotten."""
        for work in self._under_way:
            work.wait()
        self._under_way, self._lacking = [], []

    def last_pass(self) -> None:
        """The backward pass that comes completes the gradients: a bucket may go as soon as the pass has come to all of its weights.

        What has been launched already, by a pass that failed and is done again, is the sum of the same.
        """
        self._lacking = [len(bucket) for bucket in self._buckets]

    def launch_rest(self) -> None:
        """Launch what has not been: weights that the passes did not come to have zeros for a gradient."""
        while len(self._under_way) < len(self._buckets):
            self._launch()

    def finish(self) -> None:
        """Make each weight's gradient the sum over all processes. A weight that no process has used keeps none."""
        used = torch.tensor([parameter.grad is not None for bucket in self._buckets for parameter in bucket], dtype=torch.uint8)
        self._agree(used)
        is_used = iter(used.tolist())
        for bucket, parts, work in zip(self._buckets, self._views, self._under_way, strict=True):
            work.wait()
            summed = [(parameter, part) for parameter, part in zip(bucket, parts, strict=True) if next(is_used)]
            for parameter, _ in summed:
                if parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter)
            if summed:
                torch._foreach_copy_([cast("Tensor", parameter.grad) for parameter, _ in summed], [part for _, part in summed])
        self._under_way, self._lacking = [], []

    def _arrived(self, parameter: Tensor) -> None:
        if not self._lacking:
            return
        self._lacking[self._bucket_of[parameter]] -= 1
        while len(self._under_way) < len(self._buckets) and not self._lacking[len(self._under_way)]:
            self._launch()

    def _launch(self) -> None:
        number = len(self._under_way)
        lacking = [part for parameter, part in zip(self._buckets[number], self._views[number], strict=True) if parameter.grad is None]
        found = [
            (part, parameter.grad)
            for parameter, part in zip(self._buckets[number], self._views[number], strict=True)
            if parameter.grad is not None
        ]
        if lacking:
            torch._foreach_zero_(lacking)
        if found:
            torch._foreach_copy_([part for part, _ in found], [gradient for _, gradient in found])
        self._under_way.append(self._begin_sum(self._flat[number]))


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in their order, by so many of one type as go together."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.nbytes > BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket


def _laid_out_as(tensor: Tensor, part: Tensor) -> Tensor:
    """A part of a flat tensor with the shape of `tensor` and, where that has no gaps, its order in memory."""
    dense = tensor.is_contiguous() or tensor.is_contiguous(memory_format=torch.channels_last)
    return part.as_strided(tensor.shape, tensor.stride()) if dense else part


def views(flat: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Parts of a flat tensor in the shapes of those it is put together from."""
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
