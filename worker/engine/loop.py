"""The training loop: `fit` from top to bottom, `train_one_epoch` and `evaluate` as plain functions over one `Run`."""

import logging
import math
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from core.tasks.epochs import merit
from worker.engine.augment import Drawn
from worker.engine.checkpoint import Best
from worker.engine.data import batches_of, epoch_order
from worker.engine.errors import DivergedError
from worker.engine.memory import beyond_return, mended, smaller_judging
from worker.engine.run import Rows, Run, train_mode
from worker.engine.schedule import learning_rate_factor, set_learning_rate
from worker.engine.source import Batch, Reader
from worker.engine.state import pack
from worker.engine.team import TeammateOutOfMemoryError
from worker.engine.telling import aged, progress_event, tell, tell_epoch
from worker.engine.watch import Unlearnt, exploding, lower_rate, of_epoch, of_model
from worker.link import Ask
from worker.objectives.objective import Evaluation, StepOutcome
from worker.waiting import may_pass

logger = logging.getLogger(__name__)

LEAST_FALL = 0.005  # of a loss, for which patience begins anew; this project's own
_LOOK_EVERY = 16  # steps between two looks at the loss on a GPU: each look makes the host wait for the device


def fit(run: Run) -> Ask:
    """Train until the plan is fulfilled, nothing gets better, the slice is over, or somebody asks to stop; says who ended it.

    Raises:
        DivergedError: when the loss is not finite.
        OutOfMemoryError: when not even single images fit.
        FencedError: when another worker has taken the job over.
    """
    state = run.state
    while not state.over:
        if run.slice_end and state.epoch >= run.slice_end:
            run.checkpoints.drain()
            return Ask.SLICE
        # ------------------------------------------------------------ one pass over the training images
        asked = train_one_epoch(run)
        # ------------------------------------------------------------ judge it
        started = time.monotonic()
        evaluation = evaluate(run) if asked is Ask.GO_ON else asked
        if isinstance(evaluation, Ask):
            try:
                if evaluation is Ask.PAUSE:
                    save_within_epoch(run)
                run.checkpoints.drain()
            except Exception as error:
                if not may_pass(error):
                    raise
                logger.warning("what was done since the last checkpoint is lost: %s", error)
            return evaluation
        run.pace.evaluated(time.monotonic() - started)
        # ------------------------------------------------------------ keep what is best, and everything to go on from
        close_epoch(run, evaluation)
    run.checkpoints.drain()
    return Ask.GO_ON


def train_one_epoch(run: Run) -> Ask:
    """Train from the state's step to the end of the epoch in work; returns early when asked to."""
    state, plan = run.state, run.plan
    epoch = state.epoch + 1
    batches = batches_of(run.train_rows[epoch_order(len(run.train_rows), plan.seed, epoch)], state.batch_size)[state.step :]
    train_mode(run)
    mark = time.monotonic()
    own = [rows[run.team.share(len(rows))] for rows in batches]
    with closing(Reader(run.source, own)) as reader:
        for rows in batches:
            # ------------------------------------------------------------ may it go on?
            run.checkpoints.poll()
            # While the last one is being written the next is put off: no step waits for the storage.
            late = time.monotonic() - run.last_checkpoint > run.settings.checkpoint_seconds and not run.checkpoints.writing
            asked, late = run.team.heard((run.link.asked(), late))
            if asked:  # before a pause `fit` saves, before all else nobody needs this step
                return asked
            if late:
                save_within_epoch(run)
            # ------------------------------------------------------------ one step
            learning_rate = plan.learning_rate * learning_rate_factor(plan, state.epoch * run.steps + state.step, run.steps)
            set_learning_rate(run.optimizer, learning_rate)
            outcome = mended(run, lambda rows=rows: one_step(run, reader.current, rows, epoch))  # type: ignore[misc]
            reader.done()
            state.step += 1
            state.images += len(rows)
            state.loss_sum += outcome.plain_loss * len(rows)
            if outcome.correct is not None:
                state.correct_sum += outcome.correct * len(rows)
            # ------------------------------------------------------------ look at it now and then, and tell
            if run.device.is_cpu or state.step % _LOOK_EVERY == 0 or state.step == run.steps:
                if not math.isfinite(loss := float(outcome.loss)) or not math.isfinite(float(state.loss_sum)):
                    raise DivergedError(epoch, state.step, learning_rate, lower_rate(plan))
                tell(run, loss=loss, learning_rate=learning_rate)
            seconds, mark = time.monotonic() - mark, time.monotonic()  # waiting for images included
            state.train_seconds += seconds
            if run.device.is_cuda and run.team.leads and run.pace.steps == 0 and not run.checkpoints.writing:
                _, copy = begin_copy(run)  # takes the pinned memory of checkpoints, which is slow, while everything is warming up
                copy()
            left = run.steps * (plan.epochs - state.epoch) - state.step
            if run.compilation.after_step(seconds, left, passes=state.accumulation):
                run.pace.stepped(seconds, len(rows))
    return Ask.GO_ON


def one_step(run: Run, fetch: Callable[[], Batch], rows: Rows, epoch: int) -> StepOutcome:
    """Forward, backward and update on the batch `rows`, of which `fetch` gives this process its share on the device."""
    # Augmentation and dropout are functions of (seed, epoch, step): a resumed training draws what an unbroken one would have drawn.
    random = np.random.default_rng((run.plan.seed, epoch, run.state.step))
    torch.manual_seed(int(random.integers(2**62)) + run.team.rank)
    drawn = run.augmentation.draw(len(rows), random)
    share = run.team.share(len(rows))
    with run.team.summing(run.network):
        batch = fetch()
        outcome = run.compilation.safely(
            lambda: forward_and_backward(run, batch, rows[share], drawn[share], 1 / len(rows)),
            undo=lambda: run.optimizer.zero_grad(set_to_none=True),
        )
    if run.team.any(False):
        raise TeammateOutOfMemoryError
    with beyond_return(run):
        done = update(run, outcome)
    if run.state.epoch == 0 and run.state.first_loss is None and run.objective.shows_something(rows):
        run.state.first_loss = done.plain_loss
    return done


def forward_and_backward(run: Run, batch: Batch, rows: Rows, drawn: Drawn, weight: float) -> torch.Tensor:
    """Add to the gradients what these images say, each with that weight, in as many parts as memory asks for.

    Returns [3] on the device: of loss, plain loss and shares that were right the sums so weighted; the last is NaN where none are told.
    """
    told = torch.zeros(3, device=run.device.torch)
    parts = batches_of(np.arange(len(rows)), run.at_once) if len(rows) else []
    for number, part in enumerate(parts, 1):
        place = slice(int(part[0]), int(part[-1]) + 1)
        augmented = run.augmentation.apply(batch.images[place], drawn[place])
        with run.autocast():
            outcome = run.objective.training_step(run.network, augmented, batch.targets[place], rows[place], drawn.geometry[place])
        share = len(part) * weight
        if number == len(parts):
            run.team.last_pass()
        (outcome.loss * share).backward()  # type: ignore[no-untyped-call]
        correct = outcome.correct if outcome.correct is not None else torch.full_like(outcome.plain_loss, math.nan)
        told += torch.stack([outcome.loss.detach(), outcome.plain_loss, correct]).float() * share
    return told


def update(run: Run, told: torch.Tensor) -> StepOutcome:
    """Change the weights by the gradients of all processes; returns what all of them were told of the batch, `correct` NaN where nothing is."""
    run.team.sum_gradients()
    run.checkpoints.await_copied()
    if run.plan.gradient_clip:
        nn.utils.clip_grad_norm_(run.network.parameters(), run.plan.gradient_clip)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    if run.average is not None:
        run.average.update()
    loss, plain_loss, correct = run.team.summed(told).unbind()
    return StepOutcome(loss, plain_loss, correct)


@torch.inference_mode()
def evaluate(run: Run) -> Evaluation | Ask:
    """Judge the network, with its averaged weights where there are any, on the validation images; or what is asked for meanwhile."""
    run.checkpoints.await_copied()  # averages take the places of weights
    agree_on_statistics(run)
    run.network.eval()
    with run.compilation.aside(), run.average.in_place() if run.average is not None else nullcontext():
        return mended(run, lambda: _pass_over_validation(run), smaller_judging)


def _pass_over_validation(run: Run) -> Evaluation | Ask:
    """The processes of a team take turns with the batches; the leader judges their outputs in the order of the batches."""
    evaluator = run.objective.evaluator()
    batches = batches_of(run.validation_rows, run.judged_at_once)
    with closing(run.source.stream(batches[run.team.rank :: run.team.size])) as stream:
        for first in range(0, len(batches), run.team.size):
            if asked := run.team.heard(run.link.asked()):
                return asked
            outputs, own = None, first + run.team.rank
            if own < len(batches):
                images, targets = next(stream)
                with run.autocast():
                    outputs = run.objective.evaluation_step(run.network, run.normalisation.apply(images), targets, batches[own])
            if run.team.any(False):
                raise TeammateOutOfMemoryError
            with beyond_return(run):
                for rows, gathered in zip(batches[first:], run.team.gathered(outputs), strict=False):
                    evaluator.update(gathered, rows)
    with beyond_return(run):
        judged = evaluator.compute() if run.team.leads else None
    said = run.team.heard(replace(judged, details={}) if judged is not None else None)
    return judged or said  # type: ignore[return-value]  # the leader says one


def agree_on_statistics(run: Run) -> None:
    """Make the running batch statistics, and their averages, the mean over the processes, each of which has seen its share of the batches.

    They change linearly: the mean of what each has gathered is what would have been gathered from the mean of all.
    """
    run.checkpoints.await_copied()  # the averages are among what is copied
    norms = [module for module in run.network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    gathered = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var) if buffer is not None]
    averages = run.average.of(gathered) if run.average is not None else []
    run.team.average([*gathered, *averages])


def close_epoch(run: Run, evaluation: Evaluation) -> None:
    """Enter a judged epoch into the state, decide whether to go on, write the checkpoint, and tell once it is safe."""
    state, plan = run.state, run.plan
    if not math.isfinite(evaluation.loss):
        raise DivergedError(state.epoch + 1, state.step, plan.learning_rate, lower_rate(plan))
    # The checkpoint before has to be written before the next is begun: waited for here, so that the time left that is told below knows of it.
    run.checkpoints.drain()
    closed = time.monotonic()
    run.pace.written(run.checkpoints.state_seconds, run.checkpoints.best_seconds)
    state.epoch += 1
    is_best = merit(evaluation.score, evaluation.loss) > merit(state.best_score, state.best_loss)
    trained_loss = evaluation.loss if evaluation.trained_loss is None else evaluation.trained_loss
    falls, trained_falls = falling(evaluation.loss, state.lowest_loss), falling(trained_loss, state.lowest_trained_loss)
    gets_better = falls or trained_falls or evaluation.score > state.best_score
    state.epochs_since_lowest = 0 if gets_better else state.epochs_since_lowest + 1
    state.lowest_loss = evaluation.loss if falls else state.lowest_loss
    state.lowest_trained_loss = trained_loss if trained_falls else state.lowest_trained_loss
    if is_best:
        state.best_epoch, state.best_score, state.best_loss, state.best_metrics = (
            state.epoch,
            evaluation.score,
            evaluation.loss,
            dict(evaluation.metrics),
        )
        state.best_key = run.checkpoints.best_key(state.epoch)
        state.best_remarks = dict(evaluation.remarks)
    stops_early = plan.early_stop and state.epochs_since_lowest >= plan.patience
    state.over = state.epoch >= plan.epochs or stops_early
    last_rate = plan.learning_rate * learning_rate_factor(plan, state.epoch * run.steps - 1, run.steps)
    numbers: dict[str, Any] = {
        "train_loss": float(state.loss_sum) / state.images,
        "val_loss": evaluation.loss,
        "score": evaluation.score,
        "learning_rate": last_rate,
        "images_per_second": state.images / max(state.train_seconds, 1e-9),
        "seconds": state.train_seconds + run.pace.evaluation_seconds,
        "peak_memory_bytes": run.device.peak_bytes(),
        **evaluation.metrics,
    }
    if math.isfinite(right := float(state.correct_sum)):
        numbers["train_accuracy"] = right / state.images
    state.seconds += numbers["seconds"]
    event = progress_event(run, loss=numbers["train_loss"], learning_rate=last_rate, step=run.steps, epoch=state.epoch, judged=evaluation)
    unlearnt = Unlearnt.of(run.objective.chance_loss, None if state.first_loss is None else float(state.first_loss))
    state.unlearnt = astuple(unlearnt)
    noticed = exploding(state.history, numbers["train_loss"], lower_rate(plan), unlearnt, val_loss=evaluation.loss)
    state.history.append({**numbers, "metrics": dict(evaluation.metrics), "is_best": is_best, "event": event.payload()})
    state.begin_epoch(run.device.torch)
    if not state.over and 2 * state.epoch >= plan.epochs:  # before, a class that is never predicted may only be late
        lasting = {code: remark for code, remark in evaluation.remarks.items() if code in state.best_remarks}  # one bad epoch is nothing
        noticed |= of_epoch(state.epoch, lasting, exploded="exploding" in (*noticed, *state.remarked))
    remarks = {code: remark for code, remark in noticed.items() if code not in state.remarked}
    state.remarked.extend(remarks)
    state.remarked_of_epoch |= {code: state.epoch for code in remarks if code in evaluation.remarks}
    if state.over:
        remarks |= of_model(
            state.best_epoch, state.best_remarks, state.remarked_of_epoch, exploded="exploding" in (*remarks, *state.remarked)
        )

    def told() -> None:
        tell_epoch(run, numbers, evaluation.metrics, is_best, aged(event, time.monotonic() - closed))
        for what, remedy in remarks.values():
            run.link.noticed(what, remedy)
        if stops_early and state.epoch < plan.epochs:
            run.link.noticed(
                f"Stopped early: for {plan.patience} epochs the validation loss has fallen by less than {LEAST_FALL:.1%}, nor has the score risen. "
                f"The best epoch, {state.best_epoch}, is the model."
            )

    write_checkpoint(run, evaluation if is_best else None, told)


def falling(loss: float, lowest: float) -> bool:
    """Whether a loss is lower than the lowest before by more than a hair, as a loss that has settled may be again and again."""
    return loss < lowest - LEAST_FALL * abs(lowest) if math.isfinite(lowest) else True


def save_within_epoch(run: Run) -> None:
    """A checkpoint at the step that has just been done."""
    agree_on_statistics(run)
    write_checkpoint(run, None, lambda: None)


def write_checkpoint(run: Run, evaluation: Evaluation | None, told: Callable[[], None]) -> None:
    """Have the state as it is written in the background, with the weights that were judged if the `evaluation` of the best epoch is given.

    The leader's part. Most is copied beside the next step's passes: whoever changes weights, their averages or the optimizer's state calls
    `CheckpointFolder.await_copied` first.
    """
    run.last_checkpoint = time.monotonic()
    if not run.team.leads:
        return
    run.checkpoints.drain()  # what was copied last has been written, which may take a while
    run.link.asked()  # raises where the job has been taken over, until this moment: then nothing more is written
    if evaluation is None:
        state, copy = begin_copy(run)
        run.checkpoints.save(state, None, told, copy)
        return
    details = run.copies.of(evaluation.details, "details")  # before the rest, which it would wait for on a GPU
    state, copy = begin_copy(run)
    weights = state["network"] if run.average is None else run.average.applied_to(state["network"], state["average"]["averages"])
    run.checkpoints.save(state, Best(run.state.epoch, evaluation.score, dict(evaluation.metrics), weights, details), told, copy)


def begin_copy(run: Run) -> tuple[dict[str, Any], Callable[[], None]]:
    """Everything that a checkpoint holds, on the host, once what is returned with it has been called; until then no weights may change."""
    packed = pack(run.state, run.network, run.optimizer, run.average)
    parameters = {name for name, _ in run.network.named_parameters(remove_duplicate=False)}
    weights = {name: tensor for name, tensor in packed["network"].items() if name in parameters}
    # What else there is, batch statistics above all, the next forward pass changes.
    statistics = run.copies.of({name: tensor for name, tensor in packed["network"].items() if name not in parameters}, "statistics")
    copied, copy = run.copies.begin({**packed, "network": weights}, "state")
    both = {**copied["network"], **statistics}
    return {**copied, "network": {name: both[name] for name in packed["network"]}}, copy
