"""Finding and listing tasks, and their facts as scripts read them. Quick over a hundred thousand tasks."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from core.clock import now
from core.db.tables import AnnotationSet, Dataset, Epoch, Event, Job, Task
from core.errors import NotFoundError
from core.events import Noticed, Progress, Started, from_row
from core.models.listing import names_of
from core.names import SHOWN_NAMESAKES, refuse_namesakes
from core.tasks.backlog import load_backlog
from core.tasks.epochs import best_epoch
from core.tasks.fairness import fair_order
from core.tasks.hyperparameters import has_effect
from core.tasks.journal import ACTIVE
from core.tasks.states import State
from core.tuning.lineage import Descent, descents
from core.tuning.search import values_of
from core.tuning.standings import standings
from core.zoo.devices import count_in, is_cpu

Sort = Literal["created", "finished"]


def find_task(session: Session, workspace: str, name_or_id: str, *, only: bool = False) -> Task:
    """The task of that id, or the newest of that name.

    Raises:
        NotFoundError: naming tasks of a similar name.
        InvalidInputError: when there must be one `only` of that name, and there are several.
    """
    task = session.get(Task, name_or_id) if len(name_or_id) <= 16 else None
    if task is not None and task.workspace == workspace:
        return task
    named = select(Task).where(Task.workspace == workspace, Task.name == name_or_id).order_by(Task.created_at.desc()).limit(SHOWN_NAMESAKES)
    found = session.scalars(named).all()
    if only:
        refuse_namesakes("tasks", name_or_id, [task.id for task in found])
    if found:
        return found[0]
    similar, _ = list_tasks(session, workspace, search=name_or_id, limit=3)
    names = dict.fromkeys(f"“{other.name}”" for other in similar)
    remedy = f"Did you mean {', '.join(names)}?" if names else "`stationmaster task list` shows them all."
    raise NotFoundError(f"There is no task “{name_or_id[:100]}”.", remedy)


def list_tasks(
    session: Session,
    workspace: str,
    *,
    state: State | None = None,
    search: str = "",
    sort: Sort = "created",
    offset: int = 0,
    limit: int = 50,
) -> tuple[list[Task], int]:
    """One page of a workspace's tasks, newest first, and how many there are in all.

    Args:
        session: A reading transaction.
        workspace: Whose tasks.
        state: Only those in this state.
        search: Only those whose name holds this text, in capitals or not.
        sort: By creation, or by their end: then those that have ended come first, the last ended before the others.
        offset: Tasks to pass over.
        limit: Tasks on the page.
    """
    where = [Task.workspace == workspace]
    if state is not None:
        where.append(Task.state == state)
    if search.strip():
        where.append(Task.name_holds(search))
    newest = select(Task).where(*where).order_by(Task.created_at.desc(), Task.id)
    found = _page(session, newest.offset(offset).limit(limit)) if sort == "created" else []
    if sort == "created" and not offset and len(found) < limit:
        return found, len(found)  # a search goes over all names: not twice where once will do
    total = session.scalar(select(func.count()).select_from(Task).where(*where)) or 0
    if sort == "created":
        return found, total
    # Two queries, each along an index: where the ones that have not ended stand is not the same on all databases.
    ended = select(Task).where(*where, Task.finished_at.is_not(None)).order_by(Task.finished_at.desc(), Task.id)
    page = list(session.scalars(ended.offset(offset).limit(limit)))
    if len(page) < limit:
        passed = session.scalar(select(func.count()).select_from(Task).where(*where, Task.finished_at.is_not(None))) or 0
        others = newest.where(Task.finished_at.is_(None)).offset(max(0, offset - passed)).limit(limit - len(page))
        page += session.scalars(others)
    return page, total


def _page(session: Session, query: Select[Any]) -> list[Task]:
    """The tasks of a query. Ids come first: those an index tells with all that is searched, where Postgres would read every row."""
    ids = session.scalars(query.with_only_columns(Task.id)).all()
    tasks = {task.id: task for task in session.scalars(select(Task).where(Task.id.in_(ids)))}
    return [tasks[task_id] for task_id in ids]


def place_in_queue(session: Session, task: Task) -> int:
    """How many tasks get a job in before this one's next, plus one; 0 where it does not wait.

    Those already handed to the queue come first, then the others in the order of the dispatcher.
    """
    if State(task.state) != State.WAITING:
        return 0
    backlog = load_backlog(session, "gpu")
    before = {other for other in backlog.dispatched if other != task.id}
    if task.id in backlog.dispatched:
        older = select(func.count()).where(Task.id.in_(before), Task.created_at < task.created_at)
        return 1 + (session.scalar(older) or 0)
    for group in fair_order(backlog.waiting, backlog.people, backlog.tasks):
        if group.task_id == task.id:
            break
        before.add(group.task_id)
    return 1 + len(before)


def is_held(session: Session, task: Task) -> bool:
    """Whether a worker is at any of the task's jobs."""
    return session.scalar(select(Job.id).where(Job.task_id == task.id, Job.state.in_(ACTIVE)).limit(1)) is not None


def interrupted_job(session: Session, task: Task) -> Job | None:
    """The job of a task of one that waits again, after its worker was lost or handed it back; None of any other task."""
    if State(task.state) != State.WAITING or task.started_at is None:
        return None
    jobs = session.scalars(select(Job).where(Job.task_id == task.id)).all()
    return jobs[0] if len(jobs) == 1 else None


def seconds_of(session: Session, task: Task) -> float:
    """How long a task has trained, as `task_json` tells it under `seconds`."""
    columns = (Job.device_seconds, Job.device)
    return _seconds(task, session.execute(select(*columns).where(Job.task_id == task.id)).all())


def task_json(session: Session, task: Task, *, with_jobs: bool = False) -> dict[str, Any]:
    """A task's facts, for scripts.

    `seconds` is the time on workers, all attempts together, where the task has one training job, so that what it waited for a worker after a
    loss or a restart does not count (of attempts on so many devices as the last one had); where it has several, side by side or not, the time
    from its start to its end, or until now.
    `device_hours` is the time on devices, each counted; `gpu_hours` what of it was on GPUs, by the device that each job was on last.
    `with_jobs` lists every training job under `job_list`, while it runs with its `progress`, and with its `ending` (finished, stopped) where only
    the task's model is left to be made; tells the task's `seconds_left`; what was `noticed`,
    each with its `job`'s number, null where it concerns the task, such as the loss of a worker; and a population's copies under `lineage`.
    """
    facts = tasks_json(session, [task])[0]
    if with_jobs:
        jobs = session.scalars(select(Job).where(Job.task_id == task.id).order_by(Job.number)).all()
        facts["job_list"] = [_job_facts(session, job) for job in jobs]
        facts["seconds_left"] = _seconds_left(session, task, facts["job_list"][0]["progress"])
        facts["noticed"] = _noticed(session, Event.task_id == task.id)
        plans = {job.number: job.plan for job in jobs}
        facts["lineage"] = [_copy_facts(copy, plans[copy.number]) for copy in descents(session, task.id)]
    return facts


def tasks_json(session: Session, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """The facts of many tasks, with a few queries for all of them."""
    ids = [task.id for task in tasks]
    columns = (
        Job.task_id,
        Job.number,
        Job.state,
        Job.attempts,
        Job.epoch,
        Job.score,
        Job.metrics,
        Job.device_seconds,
        Job.plan,
        Job.device,
    )
    jobs: dict[str, list[Any]] = defaultdict(list)
    for row in session.execute(select(*columns).where(Job.task_id.in_(ids)).order_by(Job.number)):
        jobs[row.task_id].append(row)
    found = session.execute(select(Dataset.id, Dataset.name).where(Dataset.id.in_({task.dataset_id for task in tasks})))
    datasets = {row.id: row.name for row in found}
    wanted = {task.annotation_set_id for task in tasks}
    learnt = select(AnnotationSet.id, AnnotationSet.name, AnnotationSet.kind).where(AnnotationSet.id.in_(wanted))
    sets = {row.id: {"annotation_set": row.name, "annotation_kind": row.kind} for row in session.execute(learnt)}
    sources = names_of(session, (task.source_model_id for task in tasks))
    return [
        _facts(task, jobs[task.id], datasets.get(task.dataset_id, ""), sets[task.annotation_set_id], sources.get(task.source_model_id))
        for task in tasks
    ]


def job_json(session: Session, task: Task, number: int) -> dict[str, Any]:
    """One training job's facts, what was `noticed` of it as `task_json` has it, its `best_epoch` so far and, under `epochs`, the points of its curves.

    Raises NotFoundError.
    """
    job = session.scalars(select(Job).where(Job.task_id == task.id, Job.number == number)).one_or_none()
    if job is None:
        count = session.scalar(select(func.count()).where(Job.task_id == task.id))
        raise NotFoundError(f"“{task.name}” has no training job {number}.", f"It has {count}, counted from 1.")
    rows = session.scalars(select(Epoch).where(Epoch.job_id == job.id).order_by(Epoch.number)).all()
    return _job_facts(session, job) | {
        "noticed": _noticed(session, Event.job_id == job.id),
        "best_epoch": best_epoch([row.values for row in rows]) if rows else None,
        "epochs": [{"number": row.number, **row.values} for row in rows],
    }


def _noticed(session: Session, where: ColumnElement[bool]) -> list[dict[str, Any]]:
    """What was noticed, the oldest first: when, the job's number, None where it concerns the task, and a message with its remedy."""
    query = (
        select(Job.number, Event.payload, Event.created_at).outerjoin(Job, Job.id == Event.job_id).where(where, Event.kind == Noticed.kind)
    )
    return [
        {
            "at": _iso(row.created_at),
            "job": row.number,
            "message": f"{row.payload['message']} {row.payload.get('remedy', '')}".strip(),
        }
        for row in session.execute(query.order_by(Event.number))
    ]


def last_progress(session: Session, *where: ColumnElement[bool]) -> Progress | None:
    """How far those were who last told, among the events `where`; None where none has told since a worker took the job."""
    said = select(Event.kind, Event.payload).where(Event.kind.in_((Started.kind, Progress.kind)), *where)
    row = session.execute(said.order_by(Event.number.desc()).limit(1)).one_or_none()
    event = from_row(row.kind, row.payload) if row is not None else None
    return event if isinstance(event, Progress) else None


def _progress(session: Session, job: Job) -> dict[str, Any] | None:
    """What was last told of a running job, as its thread shows it; None where it does not run, or prepares its images yet."""
    if State(job.state) not in ACTIVE:
        return None
    told = last_progress(session, Event.task_id == job.task_id, Event.job_id == job.id)
    return told.payload() if told is not None else None


def _seconds_left(session: Session, task: Task, progress: dict[str, Any] | None) -> float | None:
    """About how long a running task will still take, as its thread says; None until it can be told."""
    if State(task.state) not in ACTIVE:
        return None
    if task.search.get("tuning"):
        return standings(session, task).seconds_left
    return progress["seconds_left"] if progress is not None else None


def _job_facts(session: Session, job: Job) -> dict[str, Any]:
    return {
        "number": job.number,
        "id": job.id,
        "state": job.state,
        "ending": job.ending,
        "attempts": job.attempts,
        "epoch": job.epoch,
        "planned_epochs": job.plan.get("epochs"),
        "progress": _progress(session, job),
        "ended_early": job.state == State.FINISHED and job.epoch < int(job.plan.get("epochs", 0)),
        **_told_values(values_of(job.plan), job.plan),
        "score": job.score,
        "metrics": job.metrics,
        "device": job.device,
        "device_seconds": round(job.device_seconds, 3),
        "started_at": _iso(job.started_at),
        "finished_at": _iso(job.finished_at),
        "error": job.error,
        "error_remedy": job.error_remedy,
        "plan": job.plan,
    }


def _copy_facts(copy: Descent, plan: dict[str, Any]) -> dict[str, Any]:
    return asdict(copy) | {"before": _told_values(copy.before, plan), "after": _told_values(copy.after, plan)}


def _told_values(values: dict[str, float], plan: dict[str, Any]) -> dict[str, float | None]:
    """Values of a job of that plan; no momentum of an optimizer that has none: as set by hand it would be refused."""
    return {name: value if has_effect(name, plan) else None for name, value in values.items()}


def _facts(task: Task, jobs: Sequence[Any], dataset: str, annotations: dict[str, str], source: str | None) -> dict[str, Any]:
    states = Counter(job.state for job in jobs)
    ended = State(task.state).ended
    metrics = task.metrics
    if not ended:
        best = max((job for job in jobs if job.score is not None), key=lambda job: job.score, default=None)
        metrics = best.metrics if best is not None else {}
    epochs = sum(int(job.plan.get("epochs", 0)) for job in jobs)
    return {
        "id": task.id,
        "name": task.name,
        "description": task.description,
        "state": task.state,
        "metrics": metrics,
        "jobs": {
            "total": len(jobs),
            "waiting": states[State.WAITING],
            "running": states[State.RUNNING] + states[State.STOPPING],
            "finished": states[State.FINISHED],
            "stopped": states[State.STOPPED],
            "failed": states[State.ERROR],
        },
        "model_id": task.model_id,
        "seconds": _seconds(task, jobs),
        "attempts": max((job.attempts for job in jobs), default=0),
        "flow": task.flow,
        "task_type": task.task_type,
        "dataset": dataset,
        "dataset_id": task.dataset_id,
        "annotation_set_id": task.annotation_set_id,
        **annotations,
        "network": task.network,
        "pretraining": task.pretraining,
        "source_model_id": task.source_model_id or None,
        "source_model": source,
        "tuning": task.tuning,
        "hyperparameters": task.settings,
        "search": task.search,
        "model_name": task.model_name,
        "epoch": sum(job.epoch for job in jobs),
        "planned_epochs": epochs,
        "device_hours": round(sum(job.device_seconds for job in jobs) / 3600, 5),
        "gpu_hours": round(sum(job.device_seconds for job in jobs if not is_cpu(job.device)) / 3600, 5),
        "devices": sorted({job.device for job in jobs if job.device}),
        "stop_mode": task.stop_mode,
        "error": task.error,
        "error_remedy": task.error_remedy,
        "created_by": task.created_by,
        "created_at": _iso(task.created_at),
        "started_at": _iso(task.started_at),
        "finished_at": _iso(task.finished_at),
    }


def _seconds(task: Task, jobs: Sequence[Any]) -> float:
    if len(jobs) == 1:
        return round(float(jobs[0].device_seconds) / count_in(jobs[0].device), 3)
    end = task.finished_at or (None if State(task.state).ended else now())
    return round((end - task.started_at).total_seconds(), 3) if task.started_at and end else 0.0


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
