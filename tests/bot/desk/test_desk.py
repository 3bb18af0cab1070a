"""The desk as a chat uses it: presses in, neutral replies out."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from finished_models import stripes_model
from new_tasks import training_of
from sqlalchemy import select

from bot.desk.desk import HANDLERS, Desk
from bot.desk.reply import Upload
from bot.messages import model_buttons, task_buttons
from core.access import Actor, Place
from core.db.session import Database
from core.db.tables import Dataset, DatasetFinding, Job, LightJob, Model, Task
from core.errors import ConflictError, InvalidInputError, NotAllowedError, NotFoundError
from core.settings import Settings
from core.storage import Storage
from core.tasks.creation import create_task
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.lifecycle import claim_job, hand_back
from core.vocabulary import TaskType
from core.wizard.screens import Facts, Text


@pytest.fixture
def desk(database: Database, storage: Storage, settings: Settings) -> Desk:
    return Desk(database, storage, settings)


@pytest.fixture
def task(database: Database, settings: Settings, ada: Actor, add_dataset) -> Task:
    pets = add_dataset("pets")
    with database.write() as session:
        new = training_of(
            pets,
            workspace=ada.workspace,
            person=ada.person,
            name="Tell <pets> & *friends* apart",
            plans=[TrainingPlan(image_size=64, epochs=7)],
        )
        return create_task(session, settings, new)


@pytest.fixture
def model(database: Database, storage: Storage, ada: Actor) -> Model:
    storage.write("models/m/1/model.safetensors", b"weights")
    storage.write("models/m/1/model_card.json", b"{}")
    model = Model(
        workspace=ada.workspace,
        name="Pets",
        task_type="single-label",
        network="resnet18",
        pretraining="none",
        classes=["cat", "dog"],
        metrics={"accuracy": 0.9},
        key="models/m/1",
        created_by=ada.person,
    )
    with database.write() as session:
        session.add(model)
    return model


def words(reply) -> str:
    parts = []
    for block in reply.blocks:
        if isinstance(block, Text):
            parts.append(block.body)
        elif isinstance(block, Facts):
            parts += [block.title, *(f"{name}: {value}" for name, value in block.rows)]
    return "\n".join(parts)


def test_every_button_that_messages_carry_is_served(task: Task, model: Model, desk: Desk, ada: Actor, place: Place) -> None:
    for button in (*task_buttons(task), *model_buttons(model.id)):
        assert button.action in HANDLERS
    for action in ("home:show", "help:show", "tasks:list", "models:list", "datasets:list"):
        for control in desk.press(ada, place, action).controls:
            assert control.action in HANDLERS


def test_a_tasks_details_hold_everything_chosen(desk: Desk, ada: Actor, place: Place, task: Task) -> None:
    text = words(desk.press(ada, place, "task:show", task.id))
    for expected in (task.name, "waiting, number 1 in the queue", "pets", "resnet18", "Epochs: 7", "Optimizer: SGD"):
        assert expected in text


def test_a_tasks_details_tell_the_annotation_set_and_what_is_found(
    desk: Desk, ada: Actor, place: Place, database: Database, settings: Settings, add_dataset
) -> None:
    coco = add_dataset("coco", "instances", "regions")
    with database.write() as session:
        new = training_of(coco, task_type=TaskType.OBJECT_SEGMENTATION, network="unet-tf_efficientnet_lite0")
        task = create_task(session, settings, new)
    text = words(desk.press(ada, place, "task:show", task.id))
    assert "Annotation set: instances 0 (instances)" in text and "Finds: regions per class" in text


def test_tasks_are_wanted_by_state_and_order(desk: Desk, ada: Actor, place: Place, task: Task) -> None:
    assert task.name in words(desk.press(ada, place, "tasks:list", "apart state:waiting sort:finished"))
    assert "no such task: running" in words(desk.press(ada, place, "tasks:list", "state:running"))
    with pytest.raises(InvalidInputError, match="no state “done”"):
        desk.press(ada, place, "tasks:list", "state:done")
    with pytest.raises(InvalidInputError, match="cannot be sorted by “size”"):
        desk.press(ada, place, "tasks:list", "sort:size")


def test_hyperparameters_come_as_a_file(desk: Desk, ada: Actor, place: Place, task: Task) -> None:
    reply = desk.press(ada, place, "task:hyperparameters", task.id)
    assert json.loads(reply.files[0].data)["jobs"][0]["epochs"] == 7


def test_stop_of_what_no_worker_holds_says_who_makes_the_model(
    desk: Desk, database: Database, ada: Actor, place: Place, task: Task
) -> None:
    with database.write() as session:
        job = session.scalars(select(Job)).one()
        claim_job(session, job.id, 1, worker="w", device="CPU")
        job.score, job.epoch = 0.5, 3
        hand_back(session, job.id, 1)
    assert "it goes on after epoch 3" in words(desk.press(ada, place, "task:show", task.id))
    stopped = words(desk.press(ada, place, "task:stop", f"{task.id} keep"))
    assert "is stopping: the next free worker makes its model of the best epoch." in stopped


def test_a_stopped_tasks_details_say_why_there_is_no_model(desk: Desk, ada: Actor, place: Place, task: Task) -> None:
    desk.press(ada, place, "task:stop", f"{task.id} keep")
    assert "State: stopped, without a model: no epoch had been saved yet" in words(desk.press(ada, place, "task:show", task.id))


def test_a_report_that_was_never_drawn_is_not_called_lost(
    desk: Desk, ada: Actor, place: Place, task: Task, model: Model, database: Database, storage: Storage
) -> None:
    with pytest.raises(ConflictError, match="comes with the model"):
        desk.press(ada, place, "task:report", task.id)
    with database.write() as session:
        session.get(Task, task.id).model_id = model.id
    with pytest.raises(NotFoundError, match="could not be drawn") as refused:
        desk.press(ada, place, "task:report", task.id)
    assert "The model can be used all the same" in refused.value.remedy
    storage.write(f"{model.key}/training_report.pdf", b"%PDF")
    assert desk.press(ada, place, "task:report", task.id).files[0].key == f"{model.key}/training_report.pdf"


def test_only_creator_and_admins_stop_rename_or_delete(desk: Desk, grace: Actor, ada: Actor, place: Place, task: Task) -> None:
    for action, value, values in (
        ("task:stop", f"{task.id} discard", {}),
        ("task:rename", task.id, {"name": "mine"}),
        ("task:delete", task.id, {"confirmation": "DELETE"}),
    ):
        with pytest.raises(NotAllowedError):
            desk.press(grace, place, action, value, values)
    assert "is stopped" in words(desk.press(ada, place, "task:stop", f"{task.id} discard"))


def test_other_workspaces_see_nothing(desk: Desk, place: Place, task: Task, model: Model) -> None:
    stranger = Actor("elsewhere", "slack:U9", "Eve", admin=True)
    for action, value in (
        ("task:show", task.id),
        ("task:stop", f"{task.id} keep"),
        ("model:download", model.id),
        ("dataset:show", task.dataset_id),
    ):
        with pytest.raises(NotFoundError):
            desk.press(stranger, place, action, value)


def test_deleting_asks_to_type_delete(desk: Desk, ada: Actor, place: Place, task: Task, database: Database) -> None:
    form = desk.press(ada, place, "task:delete", task.id).form
    assert form is not None and form.fields[0].label == "Type DELETE"
    with pytest.raises(InvalidInputError, match="Nothing was deleted"):
        desk.press(ada, place, form.action, values={"confirmation": "delete"})
    desk.press(ada, place, form.action, values={"confirmation": "DELETE"})
    with database.read() as session:
        assert session.scalar(select(Task)) is None


def test_a_dataset_in_use_is_not_deleted_and_the_task_is_named(desk: Desk, ada: Actor, place: Place, task: Task) -> None:
    with pytest.raises(ConflictError, match="Tell <pets>"):
        desk.press(ada, place, "dataset:delete", task.dataset_id, {"confirmation": "DELETE"})


def test_renaming_a_dataset(desk: Desk, ada: Actor, place: Place, add_dataset, database: Database) -> None:
    pets = add_dataset("pets")
    form = desk.press(ada, place, "dataset:rename", pets.id).form
    assert form is not None and form.fields[0].value == "pets"
    desk.press(ada, place, form.action, values={"name": "cats and dogs"})
    with database.read() as session:
        assert session.get_one(Dataset, pets.id).name == "cats and dogs"


def test_the_details_of_a_model_and_of_its_task_say_how_the_training_went(
    desk: Desk, ada: Actor, place: Place, task: Task, model: Model, storage: Storage, database: Database
) -> None:
    with database.write() as session:
        session.get_one(Task, task.id).model_id = model.id
    remark = {"what": "The network never says “cat”.", "remedy": "Add images."}
    storage.write(f"{model.key}/model_card.json", json.dumps({"reading": {"text": "Both losses fall."}, "remarks": [remark]}).encode())
    for told in (words(desk.press(ada, place, "model:show", model.id)), words(desk.press(ada, place, "task:show", task.id))):
        assert told.count("Assessment: Both losses fall.") == told.count("Noticed: The network never says “cat”. Add images.") == 1


def test_of_several_labels_it_is_said_which_do_not_count(
    desk: Desk, ada: Actor, place: Place, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.png"
    file.write_bytes(b"x")
    labels = [{"label": "cat", "confidence": 0.3, "present": True}, {"label": "dog", "confidence": 0.839, "present": False}]
    monkeypatch.setattr("bot.desk.models.wait_light_job", lambda *_, **__: {"labels": labels})
    told = words(desk.press(ada, place, "model:test", model.id, uploads=(Upload("x.png", file),)))
    assert "83.9 %, does not count" in told and "30.0 %," not in told


def test_an_upload_is_stored_and_its_import_queued_once_committed(
    desk: Desk, ada: Actor, place: Place, tmp_path: Path, database: Database, storage: Storage
) -> None:
    file = tmp_path / "upload"
    file.write_bytes(b"PK\x03\x04...")
    reply = desk.press(ada, place, "dataset:import", values={"name": "cells"}, uploads=(Upload("../../evil name.zip", file),))
    assert "being imported" in words(reply)
    with database.read() as session:
        job = session.scalars(select(LightJob)).one()
    assert (job.kind, job.payload["name"], job.untold_face) == ("import", "cells", "terminal")
    assert storage.read(job.payload["upload_key"]) == file.read_bytes()
    assert "evil" not in job.payload["source"]


def test_chats_may_not_import_what_the_operator_has_not_opened(
    database: Database, storage: Storage, settings: Settings, ada: Actor
) -> None:
    place = Place("slack", "C1", "1.0")
    opened = Desk(database, storage, settings.model_copy(update={"chat_import_prefixes": "s3://ours/"}))
    for source in ("/etc/passwd", "file:///etc/passwd", "http://169.254.169.254/", "s3://theirs/x", "s3://ours/../theirs"):
        with pytest.raises(NotAllowedError):
            opened.press(ada, place, "dataset:import", values={"name": "x", "source": source})
    assert "being imported" in words(opened.press(ada, place, "dataset:import", values={"name": "x", "source": "s3://ours/x"}))


def test_a_model_downloads_as_a_zip(desk: Desk, ada: Actor, place: Place, model: Model) -> None:
    reply = desk.press(ada, place, "model:download", model.id)
    with zipfile.ZipFile(io.BytesIO(reply.files[0].data)) as archive:
        assert sorted(archive.namelist()) == ["model.safetensors", "model_card.json"]


def test_retraining_begins_a_wizard_with_the_model_chosen(desk: Desk, ada: Actor, place: Place, model: Model, add_dataset) -> None:
    add_dataset("pets")
    screen = desk.press(ada, place, "model:retrain", model.id).screen
    assert screen is not None and screen.title == "Which dataset?"
    assert [step.title for step in screen.steps] == ["Dataset", "Hyperparameters", "Start"]


def test_retrainings_and_their_models_say_from_what(
    desk: Desk, ada: Actor, place: Place, task: Task, model: Model, database: Database
) -> None:
    with database.write() as session:
        session.get_one(Task, task.id).source_model_id = model.id
        child = stripes_model(workspace=ada.workspace, parent_id=model.id)
        session.add(child)
    for action, key in (("task:show", task.id), ("model:show", child.id)):
        assert "Retrained from: Pets" in words(desk.press(ada, place, action, key))
    assert "Retrained from" not in words(desk.press(ada, place, "model:show", model.id))


def test_lists_turn_pages(desk: Desk, ada: Actor, place: Place, add_dataset) -> None:
    for number in range(23):
        add_dataset(f"set {number:02d}")
    first = desk.press(ada, place, "datasets:list")
    older = next(control for control in first.controls if control.action == "datasets:list")
    last = desk.press(ada, place, "datasets:list", "20")
    assert "Datasets 1–10 of 23" in words(first) and older.value == "10"
    assert "Datasets 21–23 of 23" in words(last)


def test_made_up_presses_are_refused_in_words(desk: Desk, ada: Actor, place: Place) -> None:
    for action, value in (("os:system", "rm"), ("task:stop", ""), ("task:show", "../.."), ("dataset:show", "x y z")):
        with pytest.raises((InvalidInputError, NotFoundError)):
            desk.press(ada, place, action, value)


def test_findings_come_as_a_file_in_which_no_cell_is_a_formula(
    desk: Desk, ada: Actor, place: Place, add_dataset, database: Database
) -> None:
    pets = add_dataset("pets")
    with database.write() as session:
        session.add(
            DatasetFinding(
                dataset_id=pets.id, severity="error", code="damaged", file="=1+1.png", line=3, message="Cut short.", remedy="Send it again."
            )
        )
    content = desk.press(ada, place, "dataset:findings", pets.id).files[0].data.decode()
    assert "Cut short." in content and ",=1+1.png" not in content and "1+1.png" in content
