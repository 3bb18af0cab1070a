"""When memory runs out: what goes through the network at once becomes less, and the work is done again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from worker.engine.errors import OutOfMemoryError, is_out_of_memory
from worker.engine.recomputing import computes_again
from worker.engine.run import Run, train_mode
from worker.engine.team import TeamLostError, TeammateOutOfMemoryError

Result = TypeVar("Result")


def smaller_steps(run: Run) -> None:
    """Let a step of training take less memory: give up what it can do without, then halve what goes through the network at once, and say so.

    Raises:
        OutOfMemoryError: when single images do not fit.
    """
    run.optimizer.zero_grad(set_to_none=True)
    if _gives_up_comfort(run):
        return
    if run.at_once == 1:
        if not computes_again(run.network):
            raise OutOfMemoryError(run.image_size, run.device.name)
        run.link.noticed("Not even one image fits the device at once: what lies between layers is now computed twice instead of kept.")
        return
    run.state.accumulation = min(2 * run.state.accumulation, run.state.batch_size)
    if run.network.training:
        train_mode(run)
    run.link.noticed(
        f"The device ran out of memory: the batch of {run.state.batch_size} images now goes through the network {run.at_once} at a time."
    )


def smaller_judging(run: Run) -> None:
    """Let judging take less memory, and training go on as it does: halve what is judged at once, and give up more only for a single image.

    Raises:
        OutOfMemoryError: when single images do not fit.
    """
    if run.judged_at_once > 1:
        run.state.judging_parts *= 2
        run.device.forget_cached_memory()
        run.link.noticed(f"The device ran out of memory while judging: validation images now go through it {run.judged_at_once} at a time.")
    elif not _gives_up_comfort(run):
        raise OutOfMemoryError(run.image_size, run.device.name)


def _gives_up_comfort(run: Run) -> bool:
    """Take from the device what makes training faster only; false where there is nothing of the kind any more."""
    if run.team.any(run.compilation.on_trial):  # recorded graphs have memory of their own: nothing that worked before has to go for a trial
        run.compilation.end_trial()
        run.device.forget_cached_memory()
        return True
    if run.team.any(run.source.resident):
        run.source.leave_device()
        run.device.forget_cached_memory()
        return True
    run.device.forget_cached_memory()
    if run.team.any(run.compilation.active):
        run.compilation.leave("The device ran out of memory: the network is not compiled any more.")
        return True
    return False


def mended(run: Run, work: Callable[[], Result], smaller: Callable[[Run], None] = smaller_steps) -> Result:
    """Do `work`; when memory runs out, let it take less by `smaller`, and do it again.

    All processes of a team come to `smaller` together, with the same state.

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
        smaller(run)


@contextmanager
def beyond_return(run: Run) -> Iterator[None]:
    """A block in which a process of a team cannot ask the others any more to try again: when memory runs out in it, the team is lost."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if run.team.size > 1 and is_out_of_memory(error):
            raise TeamLostError(str(error)) from error
        raise
