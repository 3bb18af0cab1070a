"""Models at the desk: tested on a whole dataset with ground truth."""

from typing import Any

from bot.desk.office import LIST_LENGTH, Office
from bot.desk.reply import Attachment, Reply, Request
from bot.messages import LEARNT_FROM, metric_rows, percent
from core.datasets.listing import find_dataset, list_datasets
from core.models.listing import find_model
from core.tasks.light import submit_light_job, wait_light_job
from core.vocabulary import TaskType
from core.wizard.screens import Block, Button, Facts, Picture, Text, Tone

TEST_SECONDS = 600.0
_WORST = 10  # classes named with their numbers
_TOLD = {"sensitivity": "sensitivity", "specificity": "specificity", "precision": "precision", "f1": "F1", "dice": "Dice", "iou": "IoU"}
_CAPTIONS = {
    "confusion_matrix": "Confusion matrix",
    "roc": "ROC curves",
    "precision_recall": "Precision over recall",
    "froc": "FROC curves",
    "classes": "How well each class is known",
    "case_studies": "Samples of what was recognised, invented and overlooked",
}


def choose(office: Office, request: Request) -> Reply:
    """Which dataset to test a model on: those that hold the truth for its task type, a button each."""
    with office.database.read() as session:
        model = find_model(session, request.actor.workspace, request.part(0))
        offset = int(parts[1]) if len(parts := request.value.split()) > 1 and parts[1].isascii() and parts[1].isdigit() else 0
        found, total = list_datasets(
            session, request.actor.workspace, task_type=TaskType(model.task_type), offset=offset, limit=LIST_LENGTH
        )
        buttons = [Button("model:test-on", one.name[:60], value=f"{model.id} {one.id}") for one in found]
    if offset + len(found) < total:
        buttons.append(Button("model:batch", "More ▶", value=f"{model.id} {offset + LIST_LENGTH}"))
    if not found:
        return Reply((Text(f"No dataset holds the truth for {TaskType(model.task_type).title.lower()}."),), private=True)
    return Reply((Text(f"On which dataset is “{model.name}” to be tested?"),), tuple(buttons), private=True)


def run(office: Office, request: Request) -> Reply:
    """Test the model on the dataset. The work is the light worker's: this waits for it, so call it from a thread."""
    with office.database.read() as session:
        model = find_model(session, request.actor.workspace, request.part(0))
        dataset = find_dataset(session, request.actor.workspace, request.part(1))
    with office.database.write() as session:
        payload = {"model_id": model.id, "dataset_id": dataset.id, "annotation_set_id": ""}
        job = submit_light_job(session, workspace=model.workspace, person=request.actor.person, kind="batch-test", payload=payload)
    office.on_start()
    found = wait_light_job(office.database, job.id, seconds=TEST_SECONDS)
    blocks: list[Block] = [
        Text(f"“{model.name}” on {found['images']:,} images of “{dataset.name}”", Tone.HEADING),
        Facts(metric_rows(found["metrics"], thresholds="model's")),
    ]
    if found["learnt_from"]:
        blocks.append(Text(LEARNT_FROM, Tone.WARNING))
    if found["unknown_classes"]:
        left_out = f" {found['left_out_images']:,} images were left out." if found["left_out_images"] else ""
        blocks.append(Text(f"The model does not know {', '.join(found['unknown_classes'][:10])}.{left_out}", Tone.HINT))
    if rows := _weakest(found["per_class"]):
        blocks.append(Facts(rows, title="Weakest classes" if len(rows) < len(found["per_class"]) else "Classes"))
    blocks += [Picture(caption, key=found["pictures"][name]) for name, caption in _CAPTIONS.items() if name in found["pictures"]]
    return Reply(tuple(blocks), files=(Attachment(f"test-{model.id}.json", key=found["report_key"]),))


def _weakest(per_class: dict[str, dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    ranked = sorted(per_class.items(), key=lambda item: _overlap(item[1]))[:_WORST]
    told = []
    for name, values in ranked:
        numbers = [f"{title} {percent(values[key])}" for key, title in _TOLD.items() if values.get(key) is not None]
        if numbers:
            told.append((name, ", ".join(numbers)))
    return tuple(told)


def _overlap(values: dict[str, Any]) -> float:
    """By what classes are ranked: F1 or Dice; classes of which nothing is known come last."""
    value = values.get("f1", values.get("dice"))
    return 2.0 if value is None else float(value)
