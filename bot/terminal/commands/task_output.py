"""What `stationmaster task show` and its like print and draw: a task, its training jobs, one of them."""

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from bot.curves import drawn_curves
from bot.messages import (
    assessment_rows,
    duration,
    goes_on_text,
    left_text,
    metric_rows,
    percent,
    progress_text,
    started_text,
    state_text,
    stopping_text,
)
from bot.terminal.commands.output import print_facts, print_table, say
from bot.terminal.commands.runtime import Runtime
from core.datasets.listing import set_text
from core.db.tables import Dataset, Epoch, Job, Model, Task
from core.errors import ConflictError, InvalidInputError, StationmasterError
from core.events import Progress
from core.models.listing import card_of, find_model
from core.tasks.hyperparameters import FIELDS, TrainingPlan, value_text
from core.tasks.journal import ACTIVE
from core.tasks.states import State
from core.tuning.lineage import family
from core.tuning.search import TUNED, Search, fields_of
from core.tuning.standings import standings
from core.vocabulary import TaskType, Tuning
from core.wizard.review import plan_facts, search_facts
from core.wizard.screens import Facts
from core.zoo.catalogue import found_text

SHOWN_COPIES = 10  # of a population, in words
_WAITS = "waits for a worker; "
SHOWN_NOTICES = 5  # of a task
EPOCH_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("number", "Epoch", str),
    ("train_loss", "Training loss", lambda value: f"{value:.4g}"),
    ("val_loss", "Validation loss", lambda value: f"{value:.4g}"),
    ("score", "Score", percent),
    ("learning_rate", "Learning rate", lambda value: f"{value:.4g}"),
    ("images_per_second", "Images/s", lambda value: f"{value:,.0f}"),
)


def print_task(runtime: Runtime, facts: dict[str, Any]) -> None:
    """A task, and its jobs where they are among the facts and several."""
    jobs, fields = facts["jobs"], fields_of(Tuning(facts["tuning"]))
    given = "; ".join(f"{name} {fields[name].write(value)}" for name, value in facts["hyperparameters"].items() if name in fields)
    task_type, annotations = TaskType(facts["task_type"]), _annotations(runtime, facts)
    rows: list[tuple[str, object]] = [
        ("Name", facts["name"]),
        ("Id", facts["id"]),
        ("State", state_text(facts)),
        *((("Description", facts["description"]),) if facts["description"] else ()),
        ("Task type", f"{facts['task_type']}, flow {facts['flow']}"),
        ("Dataset", facts["dataset"]),
        *((("Annotation set", annotations),) if annotations else ()),
        ("Network", f"{facts['network']}, pre-training {facts['pretraining']}"),
        *((("Finds", found),) if (found := found_text(task_type, facts["network"])) else ()),
        *((("Retrained from", facts["source_model"]),) if facts["source_model"] else ()),
        ("Tuning", facts["tuning"]),
        *((("Why", facts["search"]["why"]),) if facts["search"].get("why") else ()),
        *((("Set by hand", given),) if given else ()),
        ("Created", f"{_local(facts['created_at'])} by {facts['created_by']}"),
        ("Jobs", ", ".join(f"{number} {state}" for state, number in jobs.items() if number and state != "total")),
        *metric_rows(facts["metrics"]),
    ]
    rows += _how_far(facts)
    if facts.get("seconds"):
        ended, searched = bool(facts["finished_at"]), jobs["total"] > 1
        names = {(True, False): "Training took", (False, False): "Training so far", (True, True): "From start to end"}
        rows.append((names.get((ended, searched), "Since its start"), duration(facts["seconds"])))
    if facts.get("model_id"):
        rows.append(("Model", facts["model_id"]))
        if (model := _model(runtime, facts["model_id"])) is not None:
            rows.append(("Lies at", str(runtime.storage.local_path(model.key) or model.key)))
            rows += assessment_rows(card_of(runtime.storage, model))[:1]  # what was noticed follows
    if facts.get("error"):
        rows += [("Error", facts["error"]), ("What to do", facts["error_remedy"])]
    told = facts.get("noticed", ())
    for one in told[-SHOWN_NOTICES:]:
        title = f"Noticed of job {one['job']}" if jobs["total"] > 1 and one["job"] else "Noticed"
        rows.append((title, _notice(one)))
    print_facts(rows)
    if len(told) > SHOWN_NOTICES:
        say(f"{len(told)} things were noticed, the last {SHOWN_NOTICES} are shown; --json tells them all.")
    if facts.get("job_list"):
        _print_blocks(search_facts(TrainingPlan.model_validate(facts["job_list"][0]["plan"]), Search.from_json(facts["search"])))
    if len(facts.get("job_list", ())) > 1:
        _print_jobs(facts["job_list"], facts["lineage"])


def _how_far(facts: dict[str, Any]) -> list[tuple[str, object]]:
    """Of a task that runs, or was interrupted, how far it is, in the words of its thread."""
    jobs = facts.get("job_list", ())
    if len(jobs) == 1:
        return [("Progress", progress)] if (progress := _job_progress(jobs[0])) else []
    state = State(facts["state"])
    if state.ended or not jobs or not facts["started_at"]:
        return []
    if state == State.STOPPING and not facts["jobs"]["running"]:
        return [("Progress", _WAITS + stopping_text(held=False))]
    done = f"{facts['epoch']} of {facts['planned_epochs']} epochs of all jobs{left_text(facts['seconds_left'])}"
    return [("Progress", _WAITS + done if state == State.WAITING else done)]


def _job_progress(job: dict[str, Any]) -> str:
    """How far a job is; empty before it began and after its end."""
    if State(job["state"]) in ACTIVE:
        return progress_text(Progress(**job["progress"])) if job["progress"] else started_text(job["device"])
    if job["state"] != State.WAITING or not job["attempts"]:
        return ""
    stops = job["ending"] == State.STOPPED
    return _WAITS + (stopping_text(held=False) if stops else goes_on_text(job["epoch"], job["ending"]))


def _print_jobs(jobs: list[dict[str, Any]], lineage: list[dict[str, Any]]) -> None:
    columns = ("Job", *(FIELDS[name].label for name in TUNED), "State", "Epochs", "Score")
    rows = (
        (
            job["number"],
            *(value_text(job[name]) for name in TUNED),
            "ended early" if job["ended_early"] else job["state"],
            f"{job['epoch']} of {job['planned_epochs']}",
            "–" if job["score"] is None else f"{job['score']:.4f}",
        )
        for job in jobs
    )
    print_table(columns, rows, empty="")
    if len(lineage) > SHOWN_COPIES:
        say(f"{len(lineage)} copies within the population; the last ones were these. --lineage draws all of them, --json lists them.")
    for copy in lineage[-SHOWN_COPIES:]:
        after = {name: copy["after"][name] for name in TUNED if copy["after"][name] is not None}
        values = ", ".join(f"{FIELDS[name].label.lower()} {value_text(value)}" for name, value in after.items())
        say(f"After epoch {copy['epoch']} job {copy['number']} went on from job {copy['source']}'s weights with {values}.")


def _print_blocks(blocks: Iterable[Facts]) -> None:
    """Facts of the wizard's review, under one another."""
    print_facts([row for block in blocks for row in block.rows])


def print_job(facts: dict[str, Any]) -> None:
    """One training job with its epochs."""
    epochs = facts["epochs"]
    rows: list[tuple[str, object]] = [
        ("Job", facts["number"]),
        ("Id", facts["id"]),
        ("State", "finished, ended early" if facts["ended_early"] else facts["state"]),
        ("Epochs", f"{facts['epoch']} of {facts['planned_epochs']}"),
    ]
    if progress := _job_progress(facts):
        rows.append(("Progress", progress))
    if epochs:
        best = epochs[facts["best_epoch"] - 1]
        rows.append(("Best epoch", f"{best['number']}, score {percent(best['score'])}"))
    rows += metric_rows(facts["metrics"])
    if facts["attempts"] > 1:
        rows.append(("Attempts", facts["attempts"]))
    if facts["started_at"]:
        rows += [("Device", facts["device"] or "–"), ("Device time", duration(facts["device_seconds"]))]
    rows += [(title, _local(facts[key])) for title, key in (("Started", "started_at"), ("Finished", "finished_at")) if facts[key]]
    rows += [("Noticed", _notice(one)) for one in facts["noticed"]]
    if facts["error"]:
        rows += [("Error", facts["error"]), ("What to do", facts["error_remedy"])]
    print_facts(rows)
    _print_blocks(plan_facts(TrainingPlan.model_validate(facts["plan"])))
    if epochs:
        columns = [(name, title, write) for name, title, write in EPOCH_COLUMNS if name in epochs[0]]
        print_table(
            [title for _, title, _ in columns],
            ([write(epoch[name]) if epoch.get(name) is not None else "–" for name, _, write in columns] for epoch in epochs),
            empty="",
        )


def drawn_pictures(session: Session, task: Task, number: int, picture: Path | None, lineage: Path | None) -> list[tuple[Path, bytes]]:
    """The pictures asked for, each with the file it is to become."""
    # Half a second to import: only whoever draws pays it.
    from core.tuning.pictures import lineage_picture, scores_picture

    found = standings(session, task)
    drawn: list[tuple[Path, bytes]] = []
    job = session.scalars(select(Job).where(Job.task_id == task.id, Job.number == (number or 1))).one()
    history = session.scalars(select(Epoch.values).where(Epoch.job_id == job.id).order_by(Epoch.number)).all() if picture else []
    if picture is not None and (number or len(found.jobs) == 1):
        if not history:
            raise ConflictError(f"Job {job.number} has not finished an epoch yet: there are no curves.", "Look again later.")
        drawn.append((picture, drawn_curves(job, found.score_name, history)))
    elif picture is not None:
        drawn.append((picture, scores_picture(found)))
    if lineage is not None:
        if task.search.get("tuning") != Tuning.POPULATION:
            raise InvalidInputError(f"“{task.name}” is no population: nobody copies.", "Leave --lineage out.")
        drawn.append((lineage, lineage_picture(found, family(session, task.id, found.best))))
    return drawn


def _notice(one: dict[str, Any]) -> str:
    """What was noticed, with its time: what goes on then may have ended long ago."""
    return f"{_local(one['at'])}: {one['message']}"


def _local(moment: str) -> str:
    """A moment as `core.tasks.listing` writes it, to the minute and in the time of this host."""
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"


def _annotations(runtime: Runtime, facts: dict[str, Any]) -> str:
    with runtime.database.read() as session:
        dataset = session.get_one(Dataset, facts["dataset_id"])
        return set_text(dataset, facts["annotation_set_id"], TaskType(facts["task_type"]))


def _model(runtime: Runtime, model_id: str) -> Model | None:
    try:
        with runtime.database.read() as session:
            return find_model(session, runtime.workspace, model_id)
    except StationmasterError:
        return None
