"""Several processes at one job, each with a device of its own: which part of each batch is whose, and how they stay of one mind.

Data-parallel training as torch's DistributedDataParallel does it, gradients summed while the backward pass is under way (`worker.engine.gradients`).
A process that runs out of memory within its pass can still say so, and all of them try again with smaller parts, where DistributedDataParallel
would leave the others waiting. It also serves networks that do not use all their weights on every batch, and leaves names of weights as they are.

Every process holds the same weights and the same `State`, and goes through the same calls of this module in the same order. One leads:
it alone talks to the outside and writes checkpoints; what is decided by the clock or from outside is decided by it and heard by all.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from worker.engine.device import on_host
from worker.engine.errors import is_out_of_memory
from worker.engine.gradients import GradientSums, buckets, views

Value = TypeVar("Value")

# The process that watches over all (worker.ranks) ends the others when one is gone; nobody has to guess it from silence.
_PATIENCE = timedelta(hours=12)


class TeamLostError(Exception):
    """Another process of the team is gone, or this one cannot keep up with it: the job goes on from its checkpoint in a new team."""

    @property
    def out_of_memory(self) -> bool:
        """Whether it is this process that cannot keep up, for lack of memory."""
        return isinstance(self.__cause__, Exception) and is_out_of_memory(self.__cause__)


class TeammateOutOfMemoryError(Exception):
    """Another process of the team ran out of memory in this step, and all try it again in smaller parts."""


class Team:
    """A team of one: nothing is shared and nobody has to be asked."""

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Whether this process talks to the outside."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process' part of `count` images in a row; parts differ by one image at most and may be empty."""
        each, more = divmod(count, self.size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def heard(self, said: Value) -> Value:
        """What the leader says."""
        return said

    def any(self, flag: bool) -> bool:
        """Whether it is so for any of the processes."""
        return flag

    def gathered(self, value: Any) -> list[Any]:
        """The values of all processes in the order of their ranks, on the host where there are several; for the leader alone, else empty."""
        return [value]

    @contextmanager
    def summing(self, network: nn.Module) -> Iterator[None]:
        """A block in which the gradients of a step are computed, by this process and by the others, whether it fails or not."""
        yield

    def last_pass(self) -> None:
        """Within `summing`: the backward pass that comes completes the gradients."""

    def sum_gradients(self) -> None:
        """After `summing`: make each weight's gradient the sum over all processes."""

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        return values

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Make each of the tensors the mean over all processes, in place."""

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """A block that the others begin when the leader is through with it: they find made what it makes."""
        yield

    def close(self) -> None:
        """Part in good order."""


class Several(Team):
    """One of several processes that torchrun's agent has started on this host."""

    def __init__(self) -> None:
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.local_rank = int(os.environ["LOCAL_RANK"])
        self.parted = False
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(self.local_rank)
        dist.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
        self._sums: GradientSums | None = None
        # Words go from host to host: a GPU would have to finish its work first.
        self._hosts: dist.ProcessGroup | None = None  # the usual group
        if cuda:
            self._hosts = cast("dist.ProcessGroup", dist.new_group(backend="gloo", timeout=_PATIENCE))
            # NCCL makes its connections and their buffers at the first sum. In a backward pass it would want memory when there is least.
            self.summed(torch.zeros(1, device="cuda"))
            torch.cuda.synchronize()

    def heard(self, said: Value) -> Value:
        """See `Team`."""
        words = [said]
        with _together():
            dist.broadcast_object_list(words, src=0, group=self._hosts, device=torch.device("cpu"))
        return words[0]

    def any(self, flag: bool) -> bool:
        """See `Team`."""
        flags = torch.tensor([flag], dtype=torch.uint8)
        self._agree(flags)
        return bool(flags.item())

    def _agree(self, flags: Tensor) -> None:
        with _together():
            dist.all_reduce(flags, dist.ReduceOp.MAX, group=self._hosts)

    def gathered(self, value: Any) -> list[Any]:
        """See `Team`."""
        values: list[Any] = [None] * self.size if self.leads else []
        with _together():
            dist.gather_object(on_host(value), values if self.leads else None, dst=0, group=self._hosts)
        return values

    @contextmanager
    def summing(self, network: nn.Module) -> Iterator[None]:
        """See `Team`."""
        with _together():
            if self._sums is None or self._sums.network is not network:
                self._sums = GradientSums(network, _begin_sum, self._agree)
            self._sums.begin()
        try:
            yield
        finally:
            with _together():
                self._sums.launch_rest()

    def last_pass(self) -> None:
        """See `Team`."""
        assert self._sums is not None  # noqa: S101  within `summing`
        self._sums.last_pass()

    def sum_gradients(self) -> None:
        """See `Team`."""
        assert self._sums is not None  # noqa: S101  after `summing`
        with _together():
            self._sums.finish()

    def summed(self, values: Tensor) -> Tensor:
        """See `Team`."""
        with _together():
            dist.all_reduce(values)
        return values

    def average(self, tensors: Sequence[Tensor]) -> None:
        """See `Team`."""
        if not tensors:
            return
        with _together():
            self._sum(tensors)
        torch._foreach_div_(list(tensors), self.size)

    def _sum(self, tensors: Sequence[Tensor]) -> None:
        """Bucket after bucket: the sum of one is under way while the next is put together."""
        under_way = []
        for bucket in buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            under_way.append((bucket, flat, _begin_sum(flat)))
        for bucket, flat, work in under_way:
            work.wait()
            for tensor, part in zip(bucket, views(flat, bucket), strict=True):
                tensor.copy_(part)

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """See `Team`."""
        if not self.leads:
            self.heard(None)
        yield
        if self.leads:
            self.heard(None)

    def close(self) -> None:
        """See `Team`."""
        with _together():
            dist.destroy_process_group()
        self.parted = True


def _begin_sum(flat: Tensor) -> dist.Work:
    with _together():
        work: dist.Work = dist.all_reduce(flat, async_op=True)
        return work


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what torch raises when a peer is gone, and also where memory runs out among the others' waiting
        raise TeamLostError(str(error)) from error
