"""`stationmaster task …`: create, list, show, report, stop, rename and delete training tasks."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import select
from sqlalchemy.orm import Session

from bot.messages import duration, stopping_text
from bot.terminal.commands.output import JsonOption, OldAnnotationsOption, confirm_deletion, print_json, print_table, say
from bot.terminal.commands.runtime import Runtime, WorkspaceOption
from bot.terminal.commands.task_choices import choose_dataset, flow_of, hyperparameters_of, task_type_of
from bot.terminal.commands.task_created import print_created, say_queued, warn_of_one_class, warn_of_scratch
from bot.terminal.commands.task_output import drawn_pictures, print_job, print_task
from core.db.tables import Event, Job, Task
from core.errors import ConflictError, InvalidInputError, UnavailableError
from core.events import Noticed, Progress
from core.models.listing import find_model, report_key
from core.tasks.actions import remove_task, rename_task, stop_task
from core.tasks.creation import create_task
from core.tasks.hyperparameters import FIELDS
from core.tasks.listing import find_task, is_held, job_json, list_tasks, task_json, tasks_json
from core.tasks.states import State
from core.tuning.search import SEARCH_FIELDS, fields_of
from core.vocabulary import DataType, Flow, TaskType, Tuning
from core.wizard.composition import compose
from core.wizard.context import StepContext
from core.wizard.draft import Choices, Selection
from core.wizard.writing import written
from core.zoo import catalogue

app = typer.Typer(help="Training tasks: create, list, show, report, stop, rename, delete.", no_args_is_help=True)

POLL_SECONDS = 0.5

# After a backspace click leaves lines as they are.
HYPERPARAMETERS = "\b\nHyperparameters that --set takes:\n" + "\n".join(f"  {name}: {field.range_text}" for name, field in FIELDS.items())


class Sort(StrEnum):
    """What a list of tasks is sorted by."""

    CREATED = "created"
    FINISHED = "finished"


@app.command(epilog=HYPERPARAMETERS)
def create(
    dataset: Annotated[str, typer.Option(help="Name or id of the dataset.")],
    name: Annotated[str, typer.Option(help="Name of the task, up to 100 characters.")],
    task_type: Annotated[TaskType | None, typer.Option(help="What to learn; presets and models bring theirs along.")] = None,
    description: Annotated[str, typer.Option(help="What it is about.")] = "",
    model_name: Annotated[str, typer.Option(help="Name of the model; the task's name unless given.")] = "",
    flow: Annotated[Flow | None, typer.Option(help="general, unless --preset or --model say otherwise.")] = None,
    preset: Annotated[str, typer.Option(help="The prepared application, with --flow specialized.")] = "",
    model: Annotated[str, typer.Option(help="The model to retrain, with --flow retraining.")] = "",
    annotation_set: Annotated[str, typer.Option(help="Name, kind or id of the annotation set, where several fit.")] = "",
    network: Annotated[str, typer.Option(help="Network; without it one is suggested.")] = "",
    pretraining: Annotated[str, typer.Option(help="Pre-training; the best weights at hand unless given; none trains from scratch.")] = "",
    data_type: Annotated[
        DataType | None,
        typer.Option(
            help="What the images show: the suggestion and auto's augmentation go by it; other unless given, with --model what it was trained by."
        ),
    ] = None,
    preference: Annotated[int, typer.Option(min=1, max=5, help="Model preference, 1 small to 5 large.")] = 3,
    tuning: Annotated[
        Tuning,
        typer.Option(
            help="auto: the network family's recipe, or what the operator's budget holds; manual: one job as set; grid: each value with each "
            "of the others; random: values drawn between two ends; population: poor members copy better ones."
        ),
    ] = Tuning.AUTO,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Hyperparameter as key=value, such as epochs=20, of those listed below; may be repeated, and of one key the last counts. learning_rate, "
            "weight_decay and momentum take up to six values with --tuning grid (learning_rate=0.001,0.01), lowest..highest with random and "
            "population (learning_rate=1e-5..1e-2), which also take jobs=8 to jobs=48.",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the task has ended.")] = False,
    annotations: OldAnnotationsOption = "",
    as_json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Create a training task and put it in the queue."""
    runtime = Runtime.load(workspace)
    flow = flow_of(flow, preset, model)
    for option, given in (("--network", network), ("--pretraining", pretraining)):
        if flow != Flow.GENERAL and given:
            raise InvalidInputError(
                f"{option} cannot be chosen in the flow {flow}: it is fixed there.", "Leave it out, or use --flow general."
            )
    values = hyperparameters_of(set_ or [], fields_of(tuning))
    searched = {key: values.pop(key) for key in SEARCH_FIELDS.get(tuning, {}) if key in values}

    def queued(session: Session) -> Task:
        choices = Choices(
            flow=flow,
            task_type=task_type_of(session, runtime.settings, runtime.workspace, flow, task_type, preset, model),
            preset=preset,
            source_model_id=find_model(session, runtime.workspace, model).id if model else "",
            selection=Selection.MANUAL if network else Selection.AUTO,
            preference=preference,
            data_type=data_type,
            suggest_pretraining=pretraining,
            tuning=tuning,
            hyperparameters=values,
            search={tuning.value: searched} if searched else {},
            overrides_recipe=True,
            name=name.strip(),
            description=description,
            model_name=model_name.strip(),
        )
        if network:
            spec = catalogue.find_spec(network, pretraining, runtime.settings)
            choices.network, choices.pretraining = spec.network, spec.pretraining
        context = StepContext(session, runtime.settings, runtime.actor, choices)
        choose_dataset(context, dataset, annotation_set or annotations)
        return create_task(session, runtime.settings, compose(context))

    task = written(runtime.database, queued)
    runtime.wake_queue()
    say_queued(runtime, task)
    warn_of_one_class(runtime, task)
    if flow == Flow.GENERAL and not pretraining:
        warn_of_scratch(runtime.settings, task)
    if wait:
        try:
            task = _wait(runtime, task.id)
        except KeyboardInterrupt:
            say(f"“{task.name}” goes on: `stationmaster task show {task.id}`, or `task stop`.")
            raise
    _print_created(runtime, task.id, ended=wait, as_json=as_json)


@app.command("list")
def list_(
    state: Annotated[State | None, typer.Option(help="Only tasks in this state.")] = None,
    search: Annotated[str, typer.Option(help="Part of the name.")] = "",
    sort: Annotated[Sort, typer.Option(help="By which time; newest first.")] = Sort.CREATED,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """List tasks, newest first."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        tasks, total = list_tasks(session, runtime.workspace, state=state, search=search, sort=sort.value, limit=limit)
        facts = tasks_json(session, tasks) if as_json else []
    if as_json:
        print_json(facts)
        return
    rows = ((task.id, task.name, task.state, task.task_type, task.network, f"{task.created_at:%Y-%m-%d %H:%M}") for task in tasks)
    print_table(
        ("Id", "Name", "State", "Task type", "Network", "Created"),
        rows,
        empty="No tasks here: `stationmaster chat` or `task create` makes one.",
    )
    if total > len(tasks):
        say(f"{len(tasks):,} of {total:,}; --limit shows more.")


@app.command()
def show(
    task: str,
    job: Annotated[int, typer.Option("--job", min=0, help="One training job of the task, with its epochs; 0 shows the whole task.")] = 0,
    picture: Annotated[
        Path | None, typer.Option(help="Draw into this PNG: with --job its curves, of a search the scores against the hyperparameters.")
    ] = None,
    lineage: Annotated[Path | None, typer.Option(help="Draw into this PNG who copied whom in a population.")] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Show one task, by name or id."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        found = find_task(session, runtime.workspace, task)
        facts = job_json(session, found, job) if job else task_json(session, found, with_jobs=True)
        drawn = drawn_pictures(session, found, job, picture, lineage)
    for path, data in drawn:
        path.write_bytes(data)
        say(f"Drawn: {path}")
    if as_json:
        print_json(facts)
    elif job:
        print_job(facts)
    else:
        print_task(runtime, facts)


@app.command()
def stop(
    task: str,
    discard: Annotated[
        bool, typer.Option("--discard", help="Throw away what was learnt; otherwise the best model so far is kept.")
    ] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Stop a waiting or running task."""
    runtime = Runtime.load(workspace)
    with runtime.database.write() as session:
        found = stop_task(session, runtime.actor, find_task(session, runtime.workspace, task, only=True), "discard" if discard else "keep")
        facts, held = task_json(session, found), is_held(session, found)
    if as_json:
        print_json(facts)
    else:
        say(f"“{found.name}” is {found.state}" + (f": {stopping_text(held=held)}." if found.state == State.STOPPING else "."))


@app.command()
def report(
    task: str,
    out: Annotated[Path, typer.Option(help="The PDF to write.")],
    as_json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Write the training report of a finished task as a PDF."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        found = find_task(session, runtime.workspace, task)
    drawn = runtime.storage.read(report_key(runtime.database, runtime.storage, found))
    try:
        out.write_bytes(drawn)
    except OSError as error:
        raise UnavailableError(f"{out} cannot be written: {error.strerror}.", "Give another --out.") from error
    if as_json:
        print_json({"task_id": found.id, "task": found.name, "file": str(out)})
    else:
        say(f"Wrote {out}.")


@app.command()
def rename(task: str, name: str, as_json: JsonOption = False, workspace: WorkspaceOption = "") -> None:
    """Give a task another name."""
    runtime = Runtime.load(workspace)
    with runtime.database.write() as session:
        found = rename_task(session, runtime.actor, find_task(session, runtime.workspace, task, only=True), name)
        facts = task_json(session, found)
    if as_json:
        print_json(facts)
    else:
        say(f"Renamed to “{found.name}”.")


@app.command()
def delete(
    task: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Delete an ended or waiting task; its model stays."""
    runtime = Runtime.load(workspace)
    with runtime.database.read() as session:
        found = find_task(session, runtime.workspace, task, only=True)
        facts = task_json(session, found)
    confirm_deletion(f"the task “{found.name}”", yes=yes)
    remove_task(runtime.database, runtime.storage, runtime.actor, found.id)
    if as_json:
        print_json(facts)
    else:
        say(f"Deleted “{found.name}”." + (" Its model stays: `stationmaster model list`." if found.model_id else ""))


def _print_created(runtime: Runtime, task_id: str, *, ended: bool, as_json: bool) -> None:
    """What was created, or where it has been waited for how it `ended`.

    Raises:
        ConflictError: when it has ended without a model.
    """
    with runtime.database.read() as session:
        task = find_task(session, runtime.workspace, task_id)
        facts = task_json(session, task, with_jobs=ended)
    if as_json:
        print_json(facts)
    elif ended:
        print_task(runtime, facts)
    else:
        print_created(task, facts)
    if ended and task.state != State.FINISHED:
        raise ConflictError(f"“{task.name}” ended as {task.state}. {task.error}".strip(), task.error_remedy)


def _wait(runtime: Runtime, task_id: str) -> Task:
    """Wait for the end of a task, telling its epochs; Ctrl-C leaves it running."""
    cursor = 0
    with runtime.database.read() as session:
        numbers = {row.id: row.number for row in session.execute(select(Job.id, Job.number).where(Job.task_id == task_id))}
    while True:
        with runtime.database.read() as session:
            task = find_task(session, runtime.workspace, task_id)
            events = session.scalars(select(Event).where(Event.task_id == task_id, Event.number > cursor).order_by(Event.number)).all()
        for event in events:
            cursor = event.number
            if event.kind == Progress.kind and event.payload.get("epoch_ended"):
                _say_epoch(Progress(**event.payload), numbers[event.job_id] if len(numbers) > 1 else 0)
            if event.kind == Noticed.kind:
                say(" ".join(filter(None, (event.payload["message"], event.payload["remedy"]))))
        if State(task.state).ended:
            return task
        time.sleep(POLL_SECONDS)


def _say_epoch(progress: Progress, job: int) -> None:
    of_job = f"job {job}, " if job else ""
    metric = f" · {progress.metric_name} {progress.metric:.4f}" if progress.metric is not None else ""
    left = f" · about {duration(progress.seconds_left)} left" if progress.seconds_left is not None else ""
    say(
        f"{of_job}epoch {progress.epoch}/{progress.epochs} · loss {progress.loss:.4f}{metric} · {progress.images_per_second:,.0f} images/s{left}"
    )
