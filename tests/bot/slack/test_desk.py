"""The ways in besides /train: lists, details, files, the App Home, shortcuts."""

import io
import zipfile

from new_tasks import training_of
from slack_person import Person, labels, read
from sqlalchemy import select

from core.access import Place
from core.db.session import Database
from core.db.tables import Dataset, Job, LightJob, Task
from core.settings import Settings
from core.tasks.creation import create_task
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.lifecycle import claim_job


def add_task(
    database: Database, settings: Settings, dataset: Dataset, name: str, person: str = "slack:U0000ADA", place: Place | None = None
) -> Task:
    with database.write() as session:
        return create_task(
            session,
            settings,
            training_of(dataset, person=person, person_name="Ada", name=name, plans=[TrainingPlan(image_size=64)], place=place),
        )


def newest_response(person: Person) -> dict:
    return [item for used in person.slack.responses.values() for item in used][-1]


def test_tasks_are_listed_to_the_asker_alone_and_opened(person: Person, add_dataset, database: Database, settings: Settings) -> None:
    task = add_task(database, settings, add_dataset("pets"), "Pets & <co>")
    person.command("/tasks")
    assert any("Pets & <co>" in item for item in person.told())
    assert person.slack.messages(person.channel) == []
    person.press("Pets", newest_response(person))
    shown = newest_response(person)
    assert "resnet18" in read(shown) and shown["replace_original"]
    person.press("Rename", shown)
    person.fill(name="Cats")
    with database.read() as session:
        assert session.get_one(Task, task.id).name == "Cats"
    assert "Renamed to “Cats”" in read(person.opened())


def test_deleting_needs_delete_typed(person: Person, add_dataset, database: Database) -> None:
    add_dataset("pets")
    person.command("/datasets")
    person.press("pets", newest_response(person))
    with database.write() as session:
        session.scalars(select(Dataset)).one().created_by = "slack:U0000ADA"
    person.press("Delete", newest_response(person))
    answer = person.fill(confirmation="delete")
    assert answer.payload is not None and "field:confirmation" in answer.payload["errors"]
    person.fill(confirmation="DELETE")
    assert "Deleted the dataset “pets”" in read(person.opened())
    with database.read() as session:
        assert session.scalars(select(Dataset)).all() == []


def test_another_persons_dataset_is_not_deleted(person: Person, add_dataset, database: Database) -> None:
    add_dataset("pets")
    person.command("/datasets")
    person.press("pets", newest_response(person))
    person.press("Delete", newest_response(person))
    person.fill(confirmation="DELETE")
    assert "Only the person who made" in read(person.opened())
    with database.read() as session:
        assert len(session.scalars(select(Dataset)).all()) == 1


def test_the_home_shows_what_goes_on_and_leads_there(person: Person, add_dataset, database: Database, settings: Settings) -> None:
    pets = add_dataset("pets")
    running, _ = (add_task(database, settings, pets, name) for name in ("Runs", "Waits <!here>"))
    with database.write() as session:
        job = session.scalars(select(Job).where(Job.task_id == running.id)).one()
        claim_job(session, job.id, 1, worker="w", device="CPU")
    home = person.open_home()
    text = read(home).replace("*", "")
    assert "Runs\n░" in text and "epoch 0 of" in text and "Waits <!here>\nnumber 1 in the queue" in text
    assert labels(home).count("Open") == 3 and "Train a model" in labels(home)
    person.press("Waits", view=home["id"])
    assert "resnet18" in read(person.opened()) and "waiting, number 1 in the queue" in read(person.opened())
    person.press("Train a model", view=home["id"])
    person.channel = person.slack.direct(person.user).id
    assert "What kind of training?" in person.read()


def zip_of_folders() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("cat/1.png", "dog/1.png"):
            archive.writestr(name, b"not looked at here")
    return out.getvalue()


def test_train_on_these_images_imports_the_archive_of_a_message(person: Person, database: Database, storage) -> None:
    archive = zip_of_folders()  # once: an archive carries the time at which it was made
    file = person.slack.add_file("my pets.zip", archive, "application/zip")
    message = person.slack.say(person.channel, person.user, "here", files=[file])
    person.shortcut("train_on_message", message)
    person.fill(name="pets")
    with database.read() as session:
        job = session.scalars(select(LightJob)).one()
    assert (job.kind, job.payload["name"]) == ("import", "pets")
    assert storage.read(job.payload["upload_key"]) == archive
    assert job.place["thread"] == message["ts"]


def test_train_on_these_images_takes_single_images_and_their_labels_too(person: Person, database: Database, storage) -> None:
    sent = {"1.png": b"not looked at here", "2.png": b"nor this", "label.csv": b"1.png,cat"}
    files = [person.slack.add_file(name, content) for name, content in sent.items()]
    message = person.slack.say(person.channel, person.user, "here", files=files)
    person.shortcut("train_on_message", message)
    person.fill(name="pets")
    with database.read() as session:
        job = session.scalars(select(LightJob)).one()
    with zipfile.ZipFile(io.BytesIO(storage.read(job.payload["upload_key"]))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == sent


def test_a_message_without_files_says_what_is_wanted(person: Person) -> None:
    message = person.slack.say(person.channel, person.user, "here")
    person.shortcut("train_on_message", message)
    assert "no file in this message" in read(person.opened())


def test_an_archive_in_a_thread_of_ours_is_imported_and_one_elsewhere_is_not(person: Person, database: Database) -> None:
    file = person.slack.add_file("pets.zip", zip_of_folders(), "application/zip")
    other = person.say("unrelated")
    person.say("see", thread=other["ts"], files=[file])
    with database.read() as session:
        assert session.scalars(select(LightJob)).all() == []
    person.command("/train")
    person.say("here", thread=person.thread(), files=[file])
    with database.read() as session:
        assert session.scalars(select(LightJob)).one().payload["name"] == "pets"


def test_hyperparameters_come_as_a_file_in_the_thread(person: Person, running, add_dataset, database: Database, settings: Settings) -> None:
    root = person.slack.say(person.channel, person.user, "go")
    add_task(database, settings, add_dataset("pets"), "Pets", place=Place("slack", f"T0000FAKE/{person.channel}", root["ts"]))
    running.notifier.tick()
    progress = person.slack.messages(person.channel, root["ts"])[0]
    person.press("Details", progress)
    assert "resnet18" in read(person.opened())
    person.press("Hyperparameters", view=person.opened()["id"])
    assert [item for item in person.slack.messages(person.channel, root["ts"]) if item.get("files")]


def test_help_says_what_one_can_do(person: Person) -> None:
    person.command("/train-help")
    assert any("/datasets" in item for item in person.told())
