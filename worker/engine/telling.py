"""What a training tells while it runs: how far it is, and each epoch once its checkpoint is safe."""

import time
from dataclasses import replace
from typing import Any

from core.events import Progress
from worker.engine.run import Run
from worker.objectives.objective import Evaluation

_PROGRESS_SECONDS = 0.5


def tell(run: Run, *, loss: float, learning_rate: float) -> None:
    """Tell how far it is, at most every half second; the first step at once."""
    now = time.monotonic()
    if now - run.last_progress >= _PROGRESS_SECONDS:
        run.last_progress = now
        run.link.progress(progress_event(run, loss=loss, learning_rate=learning_rate, step=run.state.step, epoch=run.state.epoch + 1))


def progress_event(run: Run, *, loss: float, learning_rate: float, step: int, epoch: int, judged: Evaluation | None = None) -> Progress:
    """How far it is. `epoch` is the 1-based epoch in work or, where it has been `judged`, the one just ended."""
    state, plan, steps = run.state, run.plan, run.steps
    score, validation_loss = None, None
    if judged is not None:
        score, validation_loss = judged.score, judged.loss
    elif state.history:
        score, validation_loss = state.history[-1]["score"], state.history[-1]["val_loss"]
    return Progress(
        epoch=epoch,
        epochs=plan.epochs,
        step=step,
        steps=steps,
        fraction=((epoch - 1) * steps + step) / (plan.epochs * steps),
        loss=loss,
        learning_rate=learning_rate,
        images_per_second=run.pace.images_per_second,
        seconds_left=run.pace.seconds_left(
            images=(plan.epochs - epoch) * len(run.train_rows) + len(run.train_rows) * (steps - step) // steps,
            evaluations=plan.epochs - epoch + (0 if judged is not None else 1),
            epoch_images=len(run.train_rows),
            validation_images=len(run.validation_rows),
        ),
        epoch_ended=judged is not None,
        metric_name=run.objective.score_name,
        metric=score,
        best=state.best_score if state.best_epoch else None,
        validation_loss=validation_loss,
    )


def aged(event: Progress, seconds: float) -> Progress:
    """The event as it is told so many seconds late."""
    return event if event.seconds_left is None else replace(event, seconds_left=max(0.0, event.seconds_left - seconds))


def tell_epoch(run: Run, numbers: dict[str, Any], metrics: dict[str, Any], is_best: bool, event: Progress) -> None:
    """Tell of an epoch whose checkpoint is safe."""
    run.link.epoch_ended(event.epoch, numbers, score=numbers["score"], metrics=metrics, is_best=is_best, event=event)
