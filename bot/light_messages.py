"""What is told of light jobs in the threads that they were asked for in: how far a dataset is, and how they ended."""

from collections.abc import Mapping, Sequence

from core.datasets.findings import summary_of
from core.db.tables import Dataset, DatasetFinding, LightJob
from core.tasks.states import State
from core.wizard.screens import Button, Confirm, Facts, Message, ProgressBar, Text, Tone
from core.zoo.evidence import of_result, sentences

SHOWN_FINDINGS = 8
MADE = {"import": "imported", "combine": "combined"}  # light jobs that make a dataset, and what it then has been


def progress_message(job: LightJob) -> Message | None:
    """How far the making of a dataset is: one message of its thread that changes; None for light jobs that are over before one would look."""
    made = MADE.get(job.kind)
    if made is None:
        return None
    key, name = f"light:{job.id}:progress", Text(f"“{job.payload.get('name', '')}” is being {made}", Tone.HEADING)
    if State(job.state).ended:
        return Message(key, (Text(f"“{job.payload.get('name', '')}”: all images have been read.", Tone.HINT),))
    if job.state == State.WAITING:
        return Message(key, (name, Text("Waiting: no light worker has taken it yet. One has to be running (`stationmaster up`).")))
    done, total = (int(job.result.get(count) or 0) for count in ("done", "total"))
    if not total:
        return Message(key, (name, Text("Looking at what there is.")))
    return Message(key, (name, ProgressBar(min(1.0, done / total), f"{done:,} of {total:,} images")))


def end_message(
    job: LightJob, dataset: Dataset | None, findings: Sequence[DatasetFinding], counts: Mapping[tuple[str, str], int]
) -> Message:
    """The end of a light job: a dataset, with what was noticed and, where something was left out, the choice to keep or drop it; or what
    went wrong.

    `findings` are the first ones, `counts` all by code and severity.
    """
    key = f"light:{job.id}"
    name = str(job.payload.get("name", ""))
    if job.state == "error":
        made = MADE.get(job.kind, "")
        what = f"“{name}” could not be {made}: {job.error}" if made else job.error
        return Message(key, (Text(f"{what} {job.error_remedy}".strip(), Tone.ERROR),))
    if job.kind == "evidence":
        measured = of_result(job.result)
        title = f"What {len(measured)} candidates show on {job.result.get('images', 0)} of your images"
        return Message(
            key,
            (
                Facts(tuple(sentences(measured)), title=title),
                Text("The suggestion in the model step follows this now: press “Look again” there."),
            ),
        )
    if dataset is None:
        return Message(key, (Text(f"“{name}” was {MADE[job.kind]}, and has been deleted since." if job.kind in MADE else "Done."),))
    held = dataset.state == "held"
    images = f"{dataset.image_count:,} {'image' if dataset.image_count == 1 else 'images'}"
    ready = (
        Text(f"Of “{name}” {images} can be used; something was left out.", Tone.WARNING)
        if held
        else Text(f"The dataset “{dataset.name}” is ready: {images}.", Tone.GOOD)
    )
    look = (Button("dataset:show", "Look at it", value=dataset.id), Button("train:begin", "Train on it", value=dataset.id))
    if not findings:
        return Message(key, (ready,), look)
    rows = tuple(
        (f"{item.file}{f', line {item.line}' if item.line else ''}", f"{item.message} {item.remedy}".strip())
        for item in findings[:SHOWN_FINDINGS]
    )
    as_file = Button("dataset:findings", "List as a file", value=dataset.id)
    more = "There are more: the full list is in the file." if len(findings) > SHOWN_FINDINGS else "The list is also in the file."
    noticed = Facts(rows, title=summary_of(counts))
    if not held:
        return Message(key, (ready, noticed, Text(more)), (*look, as_file))
    return Message(
        key,
        (ready, noticed, Text(f"{more} Keep the good part, or drop all?")),
        (
            Button("dataset:keep", "Keep the good part", style="primary", value=dataset.id),
            Button(
                "dataset:drop",
                "Drop all",
                style="danger",
                value=dataset.id,
                confirm=Confirm("Drop the whole dataset?", "Drop all", "Keep it"),
            ),
            as_file,
        ),
    )
