"""Datasets at the desk: what a light worker does with them besides importing: statistics, combinations."""

import json
from collections.abc import Sequence
from typing import Any

from bot.desk.office import Office
from bot.desk.reply import Attachment, Reply, Request
from core.datasets.combining import check_labels, choose_parts, read_renames
from core.datasets.listing import find_dataset
from core.datasets.representation import SERIOUSLY, WELL
from core.datasets.storing import refuse_taken_name
from core.db.tables import AnnotationSet, Dataset
from core.errors import NotFoundError
from core.names import clean_name
from core.tasks.light import submit_light_job, wait_light_job
from core.vocabulary import AnnotationKind
from core.wizard.screens import Facts, Field, Form, Picture, Text, Tone

ANSWER_SECONDS = 120
SHOWN_CLASSES = 20


def statistics(office: Office, request: Request) -> Reply:
    """Labels, sizes, boxes and masks as a picture, the worst represented classes by name, and all numbers as a JSON file.

    The work is the light worker's: this waits for it, so call it from a thread.
    """
    with office.database.read() as session:
        dataset = find_dataset(session, request.actor.workspace, request.part(0))
    annotation_set = _annotation_set(dataset, request)
    with office.database.write() as session:
        payload = {"dataset_id": dataset.id, "annotation_set_id": annotation_set.id}
        job = submit_light_job(session, workspace=dataset.workspace, person=request.actor.person, kind="statistics", payload=payload)
    office.on_start()
    keys = wait_light_job(office.database, job.id, seconds=ANSWER_SECONDS)
    found: dict[str, Any] = json.loads(office.storage.read(keys["json_key"]))
    under = sorted((label for label in found["labels"] if label["representation"] != WELL), key=lambda label: label["images"])
    rows = tuple((label["class"], f"{label['images']:,} images, {label['representation']}") for label in under[:SHOWN_CLASSES])
    seriously = sum(label["representation"] == SERIOUSLY for label in under)
    well = len(found["labels"]) - len(under)
    words = f"{well} classes well, {len(under) - seriously} mildly and {seriously} seriously under-represented against {found['cut_off']:.0%} of an equal share."
    return Reply(
        (
            Text(f"“{dataset.name}”, {annotation_set.name}: {found['images']:,} images", Tone.HEADING),
            Text(words),
            *((Facts(rows, title="Under-represented"),) if rows else ()),
            Picture(f"Statistics of “{dataset.name}”, {annotation_set.name}", key=keys["png_key"]),
        ),
        private=True,
        files=(Attachment(f"statistics-{dataset.id}.json", key=keys["json_key"]),),
    )


def combine(office: Office, request: Request) -> Reply:
    """Ask what to combine a dataset with, under which name, and which labels; or queue it. Its thread tells how it went."""
    if "name" not in request.values:
        with office.database.read() as session:
            first = find_dataset(session, request.actor.workspace, request.part(0))
        return Reply(form=_combine_form(first, _annotation_set(first, request)))
    payload = check_combine(office, request)
    with office.database.write() as session:
        submit_light_job(
            session, workspace=request.actor.workspace, person=request.actor.person, kind="combine", payload=payload, place=request.place
        )
    office.on_start()
    return Reply(
        (Text(f"“{payload['name']}” is being made of {len(payload['datasets'])} datasets. It will be told here when it is ready."),)
    )


def check_combine(office: Office, request: Request) -> dict[str, Any]:
    """What a light worker is to combine.

    Raises:
        StationmasterError: for a name, datasets or labels that cannot be.
    """
    with office.database.read() as session:
        first = find_dataset(session, request.actor.workspace, request.part(0))
        others = [find_dataset(session, request.actor.workspace, name) for name in _lines(request.typed("others"))]
    annotation_set = _annotation_set(first, request)
    name = clean_name(request.typed("name"), "dataset")
    refuse_taken_name(office.database, request.actor.workspace, name)
    parts = choose_parts([first, *others], AnnotationKind(annotation_set.kind))
    only, rename = _lines(request.typed("only")), read_renames(_lines(request.typed("rename")))
    check_labels(parts, only, rename)
    return {
        "name": name,
        "datasets": [part.dataset.id for part in parts],
        "kind": annotation_set.kind,
        "only": only,
        "rename": rename,
    }


def _combine_form(dataset: Dataset, annotation_set: AnnotationSet) -> Form:
    labels = ", ".join(annotation_set.classes[:30]) + (" …" if len(annotation_set.classes) > 30 else "")
    return Form(
        f"dataset:combine {dataset.id} {annotation_set.id}",
        "Combine datasets",
        (
            Field("name", "Name", "text", "", hint="How the new dataset shall be called", required=True, max_length=100),
            Field("others", "With", "paragraph", "", hint="Names of other datasets, one per line", required=True, max_length=1000),
            Field(
                "only",
                "Labels",
                "paragraph",
                "",
                hint=f"One per line; empty for all. “{dataset.name[:40]}” has {labels[:200]}",
                max_length=2000,
            ),
            Field("rename", "New names of labels", "paragraph", "", hint="OLD=NEW, one per line", max_length=2000),
        ),
        submit="Combine",
    )


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _annotation_set(dataset: Dataset, request: Request) -> AnnotationSet:
    wanted = request.value.split()[1:2]
    found: Sequence[AnnotationSet] = [one for one in dataset.annotation_sets if not wanted or one.id == wanted[0]]
    if not found:
        raise NotFoundError(f"“{dataset.name}” has no such labels.", "Look at the dataset again.")
    return found[0]
