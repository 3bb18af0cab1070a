"""What `stationmaster task create` says of the task that it has put in the queue."""

from typing import Any

from bot.terminal.commands.output import print_facts, say
from bot.terminal.commands.runtime import Runtime
from core.datasets.representation import ONE_CLASS_REMEDY, one_class_text
from core.db.tables import AnnotationSet, Task
from core.settings import Settings
from core.tasks.listing import place_in_queue
from core.zoo import catalogue, weights


def print_created(task: Task, facts: dict[str, Any]) -> None:
    """What it is, what it trains, and why where that was chosen for the person. `facts` are those of `task_json`."""
    rows: list[tuple[str, object]] = [
        ("Task", task.name),
        ("Id", task.id),
        ("State", task.state),
        ("Network", task.network),
        ("Pre-training", "none (from scratch)" if task.pretraining == catalogue.NONE else task.pretraining),
    ]
    if reasons := task.suggestion.get("reasons"):
        rows.append(("Suggested for", "; ".join(reasons)))
    rows.append(("Tuning", task.tuning))
    if facts["jobs"]["total"] > 1:
        rows.append(("Training jobs", facts["jobs"]["total"]))
    if why := facts["search"].get("why"):
        rows.append(("Why", why))
    print_facts(rows)


def warn_of_one_class(runtime: Runtime, task: Task) -> None:
    """Say where there is nothing to learn to tell."""
    with runtime.database.read() as session:
        found = session.get(AnnotationSet, task.annotation_set_id)
    if found is not None and (one_class := one_class_text(found.kind, found.classes, found.class_counts)):
        say(f"Warning: {one_class} {ONE_CLASS_REMEDY}")


def warn_of_scratch(settings: Settings, task: Task) -> None:
    """Say where a network learns from scratch only for want of weights, and how to get them."""
    if task.pretraining != catalogue.NONE:
        return
    if lacked := weights.lacking(catalogue.of_network(task.network, settings), settings):
        say(f"Warning: {task.network} learns without pre-trained weights. {weights.lacking_text(lacked)}")
        say(
            f"{weights.how_to_get(lacked[0], settings)}, and create the task again. `stationmaster zoo show {task.network}` lists them all."
        )


def say_queued(runtime: Runtime, task: Task) -> None:
    """Where it stands in the queue, and whether somebody works there."""
    workers = runtime.training_workers()
    if workers is None:
        say(
            f"“{task.name}” is kept in the database, but the queue of STATIONMASTER_REDIS_URL does not answer: `stationmaster doctor` says more."
        )
        return
    if workers == 0:
        say(f"“{task.name}” is queued. No training worker is running: it starts as soon as one does (`stationmaster up`).")
        return
    with runtime.database.read() as session:
        place = place_in_queue(session, task)
    say(f"“{task.name}” is queued" + (f", number {place} in the queue." if place > 1 else "."))
