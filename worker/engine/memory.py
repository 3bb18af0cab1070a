"""When memory runs out: what goes through the network at once becomes less, and the work is done again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from worker.engine.errors import OutOfMemoryError
from worker.engine.recomputing import computes_again
from worker.engine.run import Run, train_mode
from worker.engine.team import TeamLostError, TeammateOutOfMemoryError

Result = TypeVar("Result")


def mended(run: Run, work: Callable[[], Result]) -> Result:
    """Do `work`; when memory runs out, halve what goes through the network at once, say so, and do it again.

    Raises:
        OutOfMemoryError: when single images do not fit.
    """
    while True:
        try:
            return work()
        except TeammateOutOfMemoryError:
            pass
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            # Said here, out of the way of what `work` asks of the others: they are at that question, and hear the answer there.
            run.team.any(True)
        run.optimizer.zero_grad(set_to_none=True)
        if run.team.any(run.source.resident):
            run.source.leave_device()
            run.device.forget_cached_memory()
            continue
        run.device.forget_cached_memory()
        if run.team.any(run.compilation.active):
            run.compilation.leave("The device ran out of memory: the network is not compiled any more.")
            continue
        if run.at_once == 1:
            if not computes_again(run.network):
                raise OutOfMemoryError(run.image_size, run.device.name)
            run.link.noticed("Not even one image fits the device at once: what lies between layers is now computed twice instead of kept.")
            continue
        run.state.accumulation = min(2 * run.state.accumulation, run.state.batch_size)
        if run.network.training:
            train_mode(run)
        run.link.noticed(
            f"The device ran out of memory: the batch of {run.state.batch_size} images now goes through the network {run.at_once} at a time."
        )


def is_out_of_memory(error: Exception) -> bool:
    """Whether it says that a device has no memory left."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return "out of memory" in text or "can't allocate memory" in text  # MPS, and the allocator of the CPU


@contextmanager
def beyond_return(run: Run) -> Iterator[None]:
    """A block in which a process of a team cannot ask the others any more to try again: when memory runs out in it, the team is lost."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if run.team.size > 1 and is_out_of_memory(error):
            raise TeamLostError(str(error)) from error
        raise
