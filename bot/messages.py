"""Task states and events in words, pictures and buttons: the neutral messages of a task's thread, the same for every face."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.db.tables import Task
from core.events import Failed, Finished, Noticed, Progress, Stopped
from core.tasks.hyperparameters import FIELDS, value_text
from core.tasks.states import State
from core.tuning.standings import JobStanding, Standings
from core.vocabulary import METRIC_NAMES, TaskType
from core.wizard.screens import Block, Button, Confirm, Facts, Message, Picture, ProgressBar, Text, Tone
from core.zoo.catalogue import found_text

PICTURE_NAMES = {
    "scores": "Scores of all training jobs against their hyperparameters",
    "lineage": "Lineage of the population: who copied whom, and when",
    "curves": "Curves of training and validation",
    "confusion_matrix": "Confusion matrix of the validation images",
    "precision_recall": "Precision over recall on the validation images",
    "classes": "How well each class is known",
    "best_and_worst": "Surest hits and worst misses among the validation images",
}

NO_CARD: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Standing:
    """Where a task stands right now, beyond its row: place in the queue (1 = next), device, last progress, curves; of a search all its jobs.

    `held` says whether a worker is at it, `goes_on` where a task that was interrupted will go on, `seconds`
    how long one that has ended has trained.
    """

    place: int = 0
    workers: int | None = None
    device: str = ""
    progress: Progress | None = None
    search: Standings | None = None
    curves: Picture | None = None
    held: bool = True
    goes_on: str = ""
    seconds: float = 0.0


def progress_message(task: Task, standing: Standing) -> Message:
    """The one message of a thread that changes while a task waits and runs."""
    key = f"{task.id}:progress"
    name = Text(task.name, Tone.HEADING)
    buttons = task_buttons(task, searched=standing.search is not None)
    if task.state == "waiting":
        blocks: tuple[Block, ...] = (name, Text(waiting_text(standing)), *_search_blocks(task, standing.search, started=False))
        return Message(key, blocks, buttons)
    if task.state == "running":
        return Message(key, (name, *_now(task, standing)), buttons)
    if task.state == "stopping":
        stands = _now(task, standing) if standing.held or standing.search is not None else ()
        return Message(key, (name, *stands, Text(f"Stopping: {stopping_text(held=standing.held)}.", Tone.WARNING)))
    return Message(
        key, (name, Text(f"{ENDINGS[task.state]} {lasted(standing.seconds, searched=standing.search is not None)}".strip(), Tone.HINT))
    )


def task_buttons(task: Task, *, searched: bool = False) -> tuple[Button, ...]:
    """How a task that has not ended can be stopped, and a look at its details and values; where it is a search, at all of its jobs."""
    look = (
        Button("task:show", "Details", value=task.id),
        *((leaderboard_button(task),) if searched else ()),
        Button("task:hyperparameters", "Hyperparameters", value=task.id),
    )
    if task.state == "waiting" and task.started_at is None:
        sure = Confirm("Take this task out of the queue?", "Take it out", "Leave it")
        return (Button("task:stop", "Take out of the queue", style="danger", value=f"{task.id} discard", confirm=sure), *look)
    if task.state not in ("waiting", "running"):
        return look
    keep = Confirm("Stop the training and keep the best model so far?", "Stop and keep", "Go on training")
    discard = Confirm("Stop the training and throw away what it has learnt?", "Stop and discard", "Go on training")
    return (
        Button("task:stop", "Stop, keep the best", value=f"{task.id} keep", confirm=keep),
        Button("task:stop", "Stop and discard", style="danger", value=f"{task.id} discard", confirm=discard),
        *look,
    )


def leaderboard_button(task: Task) -> Button:
    """The way to all jobs of a search and their picture."""
    return Button("task:jobs", "Leaderboard", value=task.id)


def model_buttons(model_id: str) -> tuple[Button, ...]:
    """What can be done with a model."""
    return (
        Button("model:test", "Test an image", style="primary", value=model_id),
        Button("model:retrain", "Retrain", value=model_id),
        Button("model:download", "Download", value=model_id),
    )


ENDINGS = {"finished": "Finished.", "stopped": "Stopped.", "error": "Ended with an error."}


def waiting_text(standing: Standing) -> str:
    """Where a waiting task stands in the queue, in words, and where it will go on."""
    if standing.workers == 0:
        return f"Waiting: no training worker is running. It {standing.goes_on or 'starts'} as soon as one does (`stationmaster up`)."
    goes_on = f" It {standing.goes_on}." if standing.goes_on else ""
    if standing.place <= 1:
        return f"Waiting: next in the queue.{goes_on}"
    return f"Waiting: number {standing.place} in the queue.{goes_on}"


def goes_on_text(epoch: int, ending: str) -> str:
    """What becomes of an interrupted job that had finished so many epochs: `goes on after epoch 3`."""
    if ending:
        return "goes on with making its model"
    return f"goes on after epoch {epoch}" if epoch else "begins again from the start"


def stopping_text(*, held: bool) -> str:
    """What a stopping task waits for: the worker that holds it, or any that makes its model."""
    return "the worker finishes the step it is at" if held else "the next free worker makes its model of the best epoch"


def _now(task: Task, standing: Standing) -> tuple[Block, ...]:
    if standing.search is None:
        return _running(standing)
    return (*_search_blocks(task, standing.search), *((standing.curves,) if standing.curves is not None else ()))


LEADERS = 5


def _search_blocks(task: Task, search: Standings | None, *, started: bool = True) -> tuple[Block, ...]:
    """Progress over all jobs of a search, and its best few."""
    if search is None:
        return ()
    blocks: list[Block] = []
    if why := task.search.get("why"):
        blocks.append(Text(str(why), Tone.HINT))
    if not started and not search.ranked:
        return (*blocks, Text(f"{len(search.jobs)} training jobs: {task.search.get('tuning', task.tuning)}."))
    jobs = f"{search.fraction:.0%} of {len(search.jobs)} jobs · {search.counts}"
    blocks.append(ProgressBar(search.fraction, jobs + left_text(search.seconds_left or None)))
    if search.ranked:
        blocks.append(leaderboard(search, LEADERS))
    if search.copies:
        blocks.append(Text(f"{search.copies} {'copy' if search.copies == 1 else 'copies'} of a better member so far.", Tone.HINT))
    return tuple(blocks)


def leaderboard(search: Standings, most: int) -> Facts:
    """The best jobs: score, values and state of each."""
    rows = tuple((f"{place}. Job {job.number}", job_text(job, search)) for place, job in enumerate(search.ranked[:most], 1))
    return Facts(rows, title=f"Best by {leaderboard_columns(search)}")


def leaderboard_columns(search: Standings) -> str:
    """What stands in the lines of `job_text`, once for all of them: `accuracy · learning rate · momentum`."""
    score = in_sentence(METRIC_NAMES.get(search.score_name, "score"))
    return " · ".join((score, *(FIELDS[name].label.lower() for name in search.varied)))


def job_text(job: JobStanding, search: Standings) -> str:
    """A job in one line, in the order of `leaderboard_columns`: `92.1 % · 0.003 · 0.9 · epoch 6 of 10`."""
    return " · ".join((percent(job.score), *(value_text(job.values[name]) for name in search.varied), _progress_text(job)))


def _progress_text(job: JobStanding) -> str:
    if job.state == State.ERROR:
        return "failed"
    if job.ended_early:
        return f"ended early after epoch {job.epoch}"
    if job.state == State.FINISHED:
        return "finished"
    if job.state == State.STOPPED:
        return f"stopped after epoch {job.epoch}"
    return f"epoch {job.epoch} of {job.epochs}" if job.epoch or job.state != State.WAITING else "waiting"


def _running(standing: Standing) -> tuple[Block, ...]:
    progress = standing.progress
    if progress is None:
        return (Text(f"Training has {started_text(standing.device)}."),)
    rows = [
        ("Loss", f"{progress.loss:.4f}"),
        ("Speed", f"{progress.images_per_second:,.0f} images/s"),
        ("Learning rate", f"{progress.learning_rate:.3g}"),
    ]
    if progress.metric is not None:
        best = f" (best {percent(progress.best)})" if progress.best is not None and progress.best > progress.metric else ""
        rows.insert(
            0, (f"Validation {in_sentence(METRIC_NAMES.get(progress.metric_name, progress.metric_name))}", percent(progress.metric) + best)
        )
    return (
        ProgressBar(progress.fraction, progress_text(progress)),
        Facts(tuple(rows)),
        *((standing.curves,) if standing.curves is not None else ()),
    )


def started_text(device: str) -> str:
    """A training of which there is no progress to tell yet: `started on CPU; preparing the images`."""
    return f"started{f' on {device}' if device else ''}; preparing the images"


def progress_text(progress: Progress) -> str:
    """How far a job is: `12% · epoch 3 of 20, about 4 min left`."""
    return f"{progress.fraction:.0%} · epoch {min(progress.epoch, progress.epochs)} of {progress.epochs}{left_text(progress.seconds_left)}"


def left_text(seconds: float | None) -> str:
    """The end of a sentence on progress: `, about 4 min left`; empty until it can be told."""
    return "" if seconds is None else f", about {duration(seconds)} left"


def notice_message(task: Task, number: int, event: Noticed) -> Message:
    """Something worth a sentence."""
    return Message(f"{task.id}:{number}", (Text(f"{event.message} {event.remedy}".strip(), Tone.WARNING),))


def finished_message(
    task: Task,
    number: int,
    event: Finished | Stopped,
    model_name: str,
    model_place: str,
    search: Standings | None = None,
    seconds: float = 0.0,
    card: Mapping[str, Any] = NO_CARD,
) -> Message:
    """The result after so many `seconds` of training: metrics against the baseline, how the curves read by the model's `card`, of a search how its
    jobs fared, pictures, and where the model lies.
    """
    blocks: list[Block] = []
    if isinstance(event, Finished):
        blocks.append(Text(f"“{task.name}” is trained. {lasted(seconds, searched=search is not None)}".strip(), Tone.GOOD))
        line = f"“{task.name}” is trained"
    elif event.model_id:
        blocks.append(Text(f"“{task.name}” was stopped; its best model so far was kept.", Tone.GOOD))
        line = f"“{task.name}” was stopped, its best model kept"
    else:
        reason = "nothing was kept." if task.stop_mode == "discard" else "there was no model to keep yet."
        stopped: tuple[Block, ...] = (Text(f"“{task.name}” was stopped; {reason}", Tone.WARNING), *_outcome(search))
        return Message(f"{task.id}:{number}", stopped, announcement=f"“{task.name}” was stopped.")
    blocks.append(Facts(metric_rows(event.metrics), title="Result on the validation images"))
    blocks += assessment_texts(card)[:1]  # what was noticed was told when it was
    blocks += [*_outcome(search), *picture_blocks(event.report)]
    blocks.append(Facts((("Model", model_name), *((("Lies at", model_place),) if model_place else ()))))
    headline = headline_metric(event.metrics)
    look = (Button("task:show", "Details", value=task.id), *((leaderboard_button(task),) if search is not None else ()))
    buttons = (*(model_buttons(event.model_id) if event.model_id else ()), *look)
    return Message(f"{task.id}:{number}", tuple(blocks), buttons, announcement=f"{line}: {headline}." if headline else f"{line}.")


def _outcome(search: Standings | None) -> tuple[Block, ...]:
    if search is None:
        return ()
    copies = f", {search.copies} {'copy' if search.copies == 1 else 'copies'}" if search.copies else ""
    jobs = Facts(((f"{len(search.jobs)} training jobs", search.outcome + copies),))
    return (jobs, leaderboard(search, LEADERS)) if search.ranked else (jobs,)


def failed_message(task: Task, number: int, event: Failed, search: Standings | None = None) -> Message:
    """What happened, and what to do next; of a search how its jobs fared."""
    blocks: list[Block] = [Text(f"“{task.name}” ended with an error: {event.error}", Tone.ERROR)]
    if event.remedy:
        blocks.append(Text(event.remedy))
    blocks += _outcome(search)
    look = (Button("task:show", "Details", value=task.id), *((leaderboard_button(task),) if search is not None else ()))
    return Message(f"{task.id}:{number}", tuple(blocks), look, announcement=f"“{task.name}” ended with an error.")


def picture_blocks(report: dict[str, str]) -> tuple[Picture, ...]:
    """The pictures of a report, the known ones first and in their order."""
    known = [name for name in PICTURE_NAMES if name in report]
    others = [name for name in report if name not in PICTURE_NAMES and report[name].endswith(".png")]
    return tuple(Picture(PICTURE_NAMES.get(name, name.replace("_", " ").capitalize()), key=report[name]) for name in (*known, *others))


LEARNT_FROM = "The model has learnt from images of this dataset: on others the numbers will be lower."


def metric_rows(metrics: dict[str, Any], *, thresholds: Literal["best", "model's"] = "best") -> tuple[tuple[str, str], ...]:
    """Metrics as name and value, fractions as percentages; the baseline beside what it is a baseline of.

    `thresholds`: what F1 of several labels counts from, the `best` on the images that were judged, as in validation, or the `model's` own.
    """
    rows = []
    several_labels = "label_accuracy" in metrics
    for name, title in METRIC_NAMES.items():
        value = metrics.get(name)
        if isinstance(value, (int, float)):
            # They count what is said from each class's threshold on. Validation chooses it: a little too good on those images, not on others.
            told = f"{title}, at the {thresholds} thresholds" if several_labels and name.endswith("_f1") else title
            rows.append((told, f"{value:.4f}" if name == "loss" else percent(value)))
        baseline = metrics.get(f"baseline_{name}")
        if isinstance(baseline, (int, float)) and name == "accuracy":
            rows.append(("Majority-class baseline", f"{percent(baseline)}: always naming the commonest class"))
        elif isinstance(baseline, (int, float)):
            rows.append((f"Baseline of {in_sentence(title)}", f"{percent(baseline)}: saying the same of every image"))
    return tuple(rows)


def assessment_rows(card: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What a model's card says of its training in words: how its curves read, and what was noticed of the epoch that is the model."""
    rows = [("Assessment", str(card["reading"]["text"]))] if "reading" in card else []
    rows += [("Noticed", f"{remark['what']} {remark['remedy']}".strip()) for remark in card.get("remarks", ())]
    return tuple(rows)


def assessment_texts(card: Mapping[str, Any]) -> tuple[Text, ...]:
    """`assessment_rows` as paragraphs: too long for a column beside their names."""
    return tuple(Text(f"{title}: {words}") for title, words in assessment_rows(card))


def headline_metric(metrics: dict[str, Any]) -> str:
    """The one number of a result, such as `accuracy 98.6 %`."""
    for name, title in METRIC_NAMES.items():
        if isinstance(metrics.get(name), (int, float)) and name != "loss":
            return f"{in_sentence(title)} {percent(metrics[name])}"
    return ""


def in_sentence(title: str) -> str:
    """A title as it stands within a sentence: `accuracy`, but `AUROC`."""
    return title if title.isupper() else title[0].lower() + title[1:]


def percent(fraction: float | None) -> str:
    """`98.6 %`."""
    return "–" if fraction is None else f"{100 * fraction:.1f} %"


def duration(seconds: float | None) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def lasted(seconds: float, *, searched: bool) -> str:
    """How long a task has trained, or a search lasted, as a sentence; empty when it never ran."""
    return f"It took {duration(seconds)}{' from start to end' if searched else ''}." if seconds else ""


def state_text(facts: Mapping[str, Any]) -> str:
    """A task's state by its facts, as `core.tasks.listing.task_json` has them; of one that was stopped and left no model, why."""
    if facts["state"] != State.STOPPED or facts["model_id"]:
        return str(facts["state"])
    if facts["stop_mode"] == "discard":
        return "stopped, without a model: what was learnt was thrown away, as asked"
    if facts["metrics"]:  # there was a model, which somebody has deleted since
        return "stopped"
    return "stopped, without a model: no epoch had been saved yet"


def task_facts(task: Task, dataset_name: str, annotations: str, source_model: str | None = None) -> Facts:
    """What a task is, in a few lines; `annotations` as `core.datasets.listing.set_text` has it, `source_model` the name of the model it retrains."""
    found = found_text(TaskType(task.task_type), task.network)
    return Facts(
        (
            ("Task type", TaskType(task.task_type).title),
            ("Dataset", dataset_name),
            *((("Annotation set", annotations),) if annotations else ()),
            ("Network", f"{task.network}, pre-training {task.pretraining}"),
            *((("Finds", found),) if found else ()),
            *((("Retrained from", source_model),) if source_model else ()),
            ("Tuning", task.tuning),
            ("Created", f"{task.created_at:%Y-%m-%d %H:%M} UTC by {task.created_by_name or task.created_by}"),
        )
    )
