"""The training jobs of a task at the desk: the whole leaderboard with the pictures of the search, and every job's curves."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from bot.curves import curves_picture, kept_picture
from bot.desk.office import Office
from bot.desk.reply import Reply, Request
from bot.messages import PICTURE_NAMES, job_text, leaderboard_columns, percent
from core.db.tables import Epoch, Event, Job, Task
from core.errors import InvalidInputError, NotFoundError
from core.events import Noticed
from core.storage import Storage
from core.tasks.epochs import best_epoch
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.listing import find_task
from core.tuning.lineage import Family, family
from core.tuning.search import Search, search_rows
from core.tuning.standings import JobStanding, Standings, standings, values_text
from core.vocabulary import Tuning
from core.wizard.review import plan_facts
from core.wizard.screens import Block, Button, Control, Facts, Menu, Option, Picture, ProgressBar, Text, Tone

PAGE = 12  # jobs on a page: a menu and the longest lines of these fit every chat


def jobs(office: Office, request: Request) -> Reply:
    """All jobs of a task, the best first, with the pictures of the search. The value is the task's id and, to turn pages, an offset."""
    parts = request.value.split()
    offset = int(parts[1]) if len(parts) > 1 and parts[1].isascii() and parts[1].isdigit() and len(parts[1]) < 4 else 0
    with office.database.read() as session:
        task = find_task(session, request.actor.workspace, request.part(0))
        found = standings(session, task)
        relations = family(session, task.id, found.best)
    ordered = [*found.ranked, *(job for job in found.jobs if job.score is None)]
    shown = ordered[offset : offset + PAGE]
    places = {job.number: place for place, job in enumerate(found.ranked, 1)}
    rows = tuple(
        (f"{places[job.number]}. Job {job.number}" if job.number in places else f"Job {job.number}", job_text(job, found)) for job in shown
    )
    blocks: list[Block] = [Text(task.name, Tone.HEADING)]
    search = Search.from_json(task.search)
    if search is not None and not offset:
        blocks.append(Facts(search_rows(search), title="What is tried"))
    blocks.append(ProgressBar(found.fraction, f"{found.fraction:.0%} of {len(found.jobs)} jobs · {found.counts}"))
    blocks.append(
        Facts(rows, title=f"Jobs {offset + 1}–{offset + len(shown)} of {len(ordered)}, the best first: {leaderboard_columns(found)}")
    )
    if search is not None and found.ranked and not offset:
        blocks += _search_pictures(office.storage, task, search, found, relations)
    return Reply(tuple(blocks), _controls(task, shown, offset, len(ordered), found), private=True)


def curves(office: Office, request: Request) -> Reply:
    """One job: its curves so far, its values and what was noticed. The value is the task's id and the job's number."""
    with office.database.read() as session:
        task = find_task(session, request.actor.workspace, request.part(0))
        job = _job(session, task, request.part(1))
        found = standings(session, task)
        history = list(session.scalars(select(Epoch.values).where(Epoch.job_id == job.id).order_by(Epoch.number)))
        told = session.scalars(select(Event.payload).where(Event.job_id == job.id, Event.kind == Noticed.kind).order_by(Event.number)).all()
    standing = next(item for item in found.jobs if item.number == job.number)
    blocks: list[Block] = [Text(f"{task.name}, job {job.number} of {len(found.jobs)}", Tone.HEADING), Text(job_text(standing, found))]
    if job.error:
        blocks.append(Text(f"{job.error} {job.error_remedy}".strip(), Tone.ERROR))
    if history:
        best = best_epoch(history)
        name, alt = f"job-{job.number}", f"Curves of job {job.number}"
        blocks.append(curves_picture(office.storage, task, job, found.score_name, history, name=name, alt=alt))
        blocks.append(Facts((("Best epoch", f"{best}, {percent(history[best - 1]['score'])}"),)))
    else:
        blocks.append(Text("It has not finished an epoch yet."))
    blocks += [Text(str(payload["message"]), Tone.HINT) for payload in told[-5:]]
    blocks += plan_facts(TrainingPlan.model_validate(job.plan))
    back = (Button("task:jobs", "All jobs", value=task.id),) if len(found.jobs) > 1 else ()
    return Reply(tuple(blocks), (*back, Button("task:show", "Details", value=task.id)), private=True)


def _job(session: Session, task: Task, number: str) -> Job:
    if not (number.isascii() and number.isdigit() and len(number) < 4):
        raise InvalidInputError("This button is from another version.", "Ask for the list again.")
    job = session.scalars(select(Job).where(Job.task_id == task.id, Job.number == int(number))).one_or_none()
    if job is None:
        raise NotFoundError(f"“{task.name}” has no training job {number}.", "Its leaderboard shows those there are.")
    return job


def _controls(task: Task, shown: list[JobStanding], offset: int, total: int, found: Standings) -> tuple[Control, ...]:
    options = tuple(Option(f"{task.id} {job.number}", f"Job {job.number}", values_text(job.values, found.varied)) for job in shown)
    controls: list[Control] = [Menu("task:curves", "Curves of a job", options, len(options))]
    if offset:
        controls.append(Button("task:jobs", "◀ Better ones", value=f"{task.id} {max(0, offset - PAGE)}"))
    if offset + PAGE < total:
        controls.append(Button("task:jobs", "Others ▶", value=f"{task.id} {offset + PAGE}"))
    return (*controls, Button("task:show", "Details", value=task.id))


def _search_pictures(storage: Storage, task: Task, search: Search, found: Standings, relations: Family) -> list[Picture]:
    # Half a second to import: only whoever draws pays it.
    from core.tuning.pictures import lineage_picture, scores_picture

    pictures = [kept_picture(storage, task, "scores", PICTURE_NAMES["scores"], scores_picture(found))]
    if search.tuning == Tuning.POPULATION:
        pictures.append(kept_picture(storage, task, "lineage", PICTURE_NAMES["lineage"], lineage_picture(found, relations)))
    return pictures
