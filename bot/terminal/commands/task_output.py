"""What `stationmaster task show` and its like print and draw: a task, its training jobs, one of them."""

from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from bot.curves import drawn_curves
from bot.messages import duration, metric_rows
from bot.terminal.commands.output import print_facts, print_table, say
from bot.terminal.commands.runtime import Runtime
from core.db.tables import Epoch, Job, Task
from core.errors import ConflictError, InvalidInputError, StationmasterError
from core.models.listing import find_model
from core.tasks.hyperparameters import FIELDS, value_text
from core.tuning.lineage import family
from core.tuning.search import TUNED, fields_of
from core.tuning.standings import standings
from core.vocabulary import Tuning

SHOWN_COPIES = 10  # of a population, in words


def print_task(runtime: Runtime, facts: dict[str, Any]) -> None:
    """A task, and its jobs where they are among the facts and several."""
    jobs, fields = facts["jobs"], fields_of(Tuning(facts["tuning"]))
    given = "; ".join(f"{name} {fields[name].write(value)}" for name, value in facts["hyperparameters"].items() if name in fields)
    rows: list[tuple[str, object]] = [
        ("Name", facts["name"]),
        ("Id", facts["id"]),
        ("State", facts["state"]),
        *((("Description", facts["description"]),) if facts["description"] else ()),
        ("Task type", f"{facts['task_type']}, flow {facts['flow']}"),
        ("Dataset", facts["dataset"]),
        ("Network", f"{facts['network']}, pre-training {facts['pretraining']}"),
        ("Tuning", facts["tuning"]),
        *((("Why", facts["search"]["why"]),) if facts["search"].get("why") else ()),
        *((("Hyperparameters", given),) if given else ()),
        ("Created", f"{facts['created_at'][:16].replace('T', ' ')} UTC by {facts['created_by']}"),
        ("Jobs", ", ".join(f"{number} {state}" for state, number in jobs.items() if number and state != "total")),
        *metric_rows(facts["metrics"]),
    ]
    if facts.get("seconds"):
        rows.append(("Training took", duration(facts["seconds"])))
    if facts.get("model_id"):
        rows.append(("Model", facts["model_id"]))
        key = _model_key(runtime, facts["model_id"])
        if key:
            rows.append(("Lies at", key))
    if facts.get("error"):
        rows += [("Error", facts["error"]), ("What to do", facts["error_remedy"])]
    print_facts(rows)
    if len(facts.get("job_list", ())) > 1:
        _print_jobs(facts["job_list"], facts["lineage"])


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
        values = ", ".join(f"{FIELDS[name].label.lower()} {value_text(copy['after'][name])}" for name in TUNED)
        say(f"After epoch {copy['epoch']} job {copy['number']} went on from job {copy['source']}'s weights with {values}.")


def print_job(facts: dict[str, Any]) -> None:
    """One training job with its epochs."""
    print_facts([(name, value) for name, value in facts.items() if name not in ("plan", "metrics", "epochs")])
    epochs = facts["epochs"]
    if epochs:
        columns = [
            name for name in ("number", "train_loss", "val_loss", "score", "learning_rate", "images_per_second") if name in epochs[0]
        ]
        print_table(columns, ([_short(epoch.get(name)) for name in columns] for epoch in epochs), empty="")


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


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _model_key(runtime: Runtime, model_id: str) -> str:
    try:
        with runtime.database.read() as session:
            model = find_model(session, runtime.workspace, model_id)
    except StationmasterError:
        return ""
    local = runtime.storage.local_path(model.key)
    return str(local) if local is not None else model.key
