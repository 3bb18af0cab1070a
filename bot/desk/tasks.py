"""Tasks at the desk: list, details, stop, hyperparameters and report as files, rename, delete."""

import json
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from bot.desk.office import Office, delete_form, page_of, pager, rename_form
from bot.desk.reply import Attachment, Reply, Request
from bot.messages import (
    assessment_texts,
    duration,
    goes_on_text,
    leaderboard_button,
    metric_rows,
    model_buttons,
    state_text,
    stopping_text,
    task_buttons,
    task_facts,
)
from core.datasets.listing import set_text
from core.db.tables import Dataset, Job, Model, Task
from core.errors import InvalidInputError
from core.models.listing import card_of, report_key
from core.tasks.actions import remove_task, rename_task, stop_task
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.listing import Sort, find_task, interrupted_job, is_held, list_tasks, place_in_queue, task_json
from core.tasks.states import State
from core.tuning.search import Search
from core.tuning.standings import standings
from core.vocabulary import TaskType
from core.wizard.review import search_facts
from core.wizard.screens import Block, Button, Control, Facts, ProgressBar, Text, Tone

LIST_LENGTH = 10
STATE, SORT = "state:", "sort:"  # words of a search that say which state, and which order


@dataclass(frozen=True)
class Wanted:
    """Which tasks somebody wants to see: part of a name, a state, and whether the last ended come first."""

    name: str
    state: State | None = None
    sort: Sort = "created"

    @classmethod
    def of(cls, query: str) -> "Wanted":
        """What a search says: `cells state:running sort:finished`.

        Raises:
            InvalidInputError: for a state or an order that there is not.
        """
        words = query.split()
        state = next((word.removeprefix(STATE) for word in words if word.startswith(STATE)), "")
        sort = next((word.removeprefix(SORT) for word in words if word.startswith(SORT)), "created")
        if state and state not in set(State):
            raise InvalidInputError(f"There is no state “{state[:40]}”.", f"There are {', '.join(State)}.")
        if sort not in ("created", "finished"):
            raise InvalidInputError(f"Tasks cannot be sorted by “{sort[:40]}”.", "They can by created or finished.")
        name = " ".join(word for word in words if not word.startswith((STATE, SORT)))
        return cls(name, State(state) if state else None, "finished" if sort == "finished" else "created")

    @property
    def text(self) -> str:
        """In words, for the head of a list; empty where nothing special is wanted."""
        parts = (
            (self.state or "", bool(self.state)),
            (f"named like “{self.name}”", bool(self.name)),
            ("last ended first", self.sort == "finished"),
        )
        return ", ".join(text for text, said in parts if said)


def list_(office: Office, request: Request) -> Reply:
    """The newest tasks, or those that a search wants; each with a button to its details."""
    offset, query = page_of(request.value)
    wanted = Wanted.of(query)
    with office.database.read() as session:
        found, total = list_tasks(
            session,
            request.actor.workspace,
            state=wanted.state,
            search=wanted.name,
            sort=wanted.sort,
            offset=offset,
            limit=LIST_LENGTH,
        )
    if not found:
        what = f"There is no such task: {wanted.text}." if wanted.name or wanted.state else "No training yet: /train starts one."
        return Reply((Text(what),), private=True)
    rows = tuple((task.name, f"{task.state} · {task.network} · {_when(task, wanted.sort)}") for task in found)
    title = f"Tasks {offset + 1}–{offset + len(found)} of {total:,}" + (f": {wanted.text}" if wanted.text else "")
    buttons = tuple(Button("task:show", task.name[:60], value=task.id) for task in found)
    return Reply((Facts(rows, title, buttons),), (*buttons, *pager("tasks:list", query, offset, total)), private=True)


def _when(task: Task, sort: Sort) -> str:
    moment, what = (task.finished_at, "ended ") if sort == "finished" and task.finished_at else (task.created_at, "")
    return f"{what}{moment:%Y-%m-%d %H:%M} UTC"


def show(office: Office, request: Request) -> Reply:
    """Everything about one task."""
    with office.database.read() as session:
        task = find_task(session, request.actor.workspace, request.part(0))
        dataset = session.get(Dataset, task.dataset_id)
        annotations = set_text(dataset, task.annotation_set_id, TaskType(task.task_type)) if dataset else ""
        facts = task_json(session, task)
        found = standings(session, task)
        plan = _first_plan(session, task)
        place, interrupted = place_in_queue(session, task), interrupted_job(session, task)
        held = is_held(session, task)
        model = session.get(Model, task.model_id) if task.model_id else None
    blocks: list[Block] = [Text(task.name, Tone.HEADING)]
    if task.description:
        blocks.append(Text(task.description))
    rows = [("State", f"waiting, number {place} in the queue" if place else state_text(facts))]
    if interrupted is not None:
        rows.append(("When its turn comes", f"it {goes_on_text(interrupted.epoch, interrupted.ending)}"))
    elif task.state == State.STOPPING:
        rows.append(("Stopping", stopping_text(held=held)))
    if facts["started_at"]:
        lasted = "Trained for" if len(found.jobs) == 1 else "From start to end" if facts["finished_at"] else "Since its start"
        rows += [("Started", f"{task.started_at:%Y-%m-%d %H:%M} UTC"), (lasted, duration(facts["seconds"]))]
        rows.append(("Device time", f"{facts['device_hours']:.2f} h on {', '.join(facts['devices']) or 'no device yet'}"))
    if len(found.jobs) > 1:
        rows.append((f"{len(found.jobs)} training jobs", found.counts))
    blocks.append(Facts((*rows, *task_facts(task, dataset.name if dataset else "", annotations, facts["source_model"]).rows)))
    if task.state == State.RUNNING and facts["planned_epochs"]:
        of = f" of {len(found.jobs)} jobs" if len(found.jobs) > 1 else ""
        blocks.append(ProgressBar(found.fraction, f"epoch {facts['epoch']} of {facts['planned_epochs']}{of}"))
    if facts["metrics"]:
        blocks.append(Facts(metric_rows(facts["metrics"]), title="Best so far" if not State(task.state).ended else "Result"))
    if model is not None:
        blocks += assessment_texts(card_of(office.storage, model))
    if task.error:
        blocks.append(Text(f"{task.error} {task.error_remedy}".strip(), Tone.ERROR))
    blocks += search_facts(plan, Search.from_json(task.search))
    if why := task.search.get("why"):
        blocks.append(Text(str(why), Tone.HINT))
    all_jobs = leaderboard_button(task) if len(found.jobs) > 1 else Button("task:curves", "Curves", value=f"{task.id} 1")
    # This is the look at its details that the thread's buttons offer.
    ways = (button for button in task_buttons(task) if button.action == "task:stop")
    controls: list[Control] = [*ways, all_jobs, Button("task:hyperparameters", "Hyperparameters", value=task.id)]
    if task.model_id:
        controls += [Button("task:report", "Training report", value=task.id), *model_buttons(task.model_id)]
    controls += [Button("task:rename", "Rename", value=task.id), Button("task:delete", "Delete", style="danger", value=task.id)]
    return Reply(tuple(blocks), tuple(controls), private=True)


def report(office: Office, request: Request) -> Reply:
    """The training report as a PDF."""
    with office.database.read() as session:
        task = find_task(session, request.actor.workspace, request.part(0))
    key = report_key(office.database, office.storage, task)
    return Reply((Text(f"The training report of “{task.name}”."),), files=(Attachment(f"training-report-{task.id}.pdf", key=key),))


def stop(office: Office, request: Request) -> Reply:
    """Stop a task; the face has asked whether to keep or discard."""
    with office.database.write() as session:
        task = stop_task(session, request.actor, find_task(session, request.actor.workspace, request.part(0)), request.part(1))
        waiting, held = task.state == State.STOPPING, is_held(session, task)
    words = f"“{task.name}” is stopping: {stopping_text(held=held)}." if waiting else f"“{task.name}” is stopped."
    return Reply((Text(words),), private=True)


def hyperparameters(office: Office, request: Request) -> Reply:
    """The complete plan of each training job, as a JSON file."""
    with office.database.read() as session:
        task = find_task(session, request.actor.workspace, request.part(0))
        jobs = session.scalars(select(Job).where(Job.task_id == task.id).order_by(Job.number)).all()
        plans = [{"job": job.number, **job.plan} for job in jobs]
    content = json.dumps(
        {"task": task.name, "network": task.network, "pretraining": task.pretraining, "jobs": plans}, ensure_ascii=False, indent=2
    )
    return Reply(
        (Text(f"Hyperparameters of “{task.name}”."),),
        private=True,
        files=(Attachment(f"hyperparameters-{task.id}.json", content.encode()),),
    )


def rename(office: Office, request: Request) -> Reply:
    """Ask for another name, or take it."""
    with office.database.write() as session:
        task = find_task(session, request.actor.workspace, request.part(0))
        if "name" not in request.values:
            return Reply(form=rename_form("task:rename", task.id, task.name))
        rename_task(session, request.actor, task, request.typed("name"))
        name = request.typed("name")
    return Reply((Text(f"Renamed to “{name}”."),), private=True)


def delete(office: Office, request: Request) -> Reply:
    """Ask to type DELETE, or delete; the model stays."""
    with office.database.read() as session:
        task = find_task(session, request.actor.workspace, request.part(0))
    if "confirmation" not in request.values:
        return Reply(form=delete_form("task:delete", task.id, task.name))
    require_delete(request)
    remove_task(office.database, office.storage, request.actor, task.id)
    return Reply((Text(f"Deleted the task “{task.name}”. Its model, if it has one, stays."),), private=True)


def require_delete(request: Request) -> None:
    """Raise InvalidInputError unless DELETE was typed."""
    if request.typed("confirmation") != "DELETE":
        raise InvalidInputError(
            "Nothing was deleted: DELETE has to be typed in capital letters.", "Press the button again if you want it gone."
        )


def _first_plan(session: Session, task: Task) -> TrainingPlan:
    plan = session.scalar(select(Job.plan).where(Job.task_id == task.id).order_by(Job.number).limit(1))
    return TrainingPlan.model_validate(plan)
