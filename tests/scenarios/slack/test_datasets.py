"""Datasets from the first upload to DELETE, all in Slack; the light worker is real, in a thread of the test's."""

import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from drawn_archives import archive_of
from new_tasks import training_of
from slack_bot import Bot, StartBot
from slack_person import Person, labels, pictures, read
from slack_server import FakeSlack
from sqlalchemy import select

from core.db.session import Database
from core.db.tables import Dataset, LightJob
from core.settings import Settings
from core.tasks.creation import create_task
from core.tasks.hyperparameters import TrainingPlan
from core.vocabulary import TaskType
from worker.light import run_light


@pytest.fixture(autouse=True)
def _light_worker(monkeypatch: pytest.MonkeyPatch, settings: Settings, database: Database) -> Iterator[None]:
    monkeypatch.setenv("STATIONMASTER_HOME", str(settings.home))
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.05):
            with database.read() as session:
                waiting = session.scalars(select(LightJob.id).where(LightJob.state == "waiting")).all()
            for job_id in waiting:
                run_light(job_id, 1)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


def answers(person: Person) -> list[dict[str, Any]]:
    """What only they have been told, the newest last."""
    given = [item for used in person.slack.responses.values() for item in used]
    given += [item for item in person.slack.ephemerals if item["user"] == person.user]
    return sorted(given, key=lambda item: int(item["ts"].partition(".")[2]))


def wait_for(bot: Bot, person: Person, words: str, thread: str) -> dict[str, Any]:
    """The message of a thread that holds these words."""
    pause = threading.Event()
    for _ in range(400):
        bot.notifier.tick()
        for message in person.slack.messages(person.channel, thread):
            if words in read(message):
                return message
        pause.wait(0.1)
    raise AssertionError(f"never said: {words}; {[read(item) for item in person.slack.messages(person.channel, thread)]}")


def with_damage(content: bytes) -> bytes:
    packed = io.BytesIO(content)
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("bright/scan 1.png", b"cut off")
    return packed.getvalue()


@pytest.fixture
def bring(person: Person, running: Bot) -> Callable[..., Dataset]:
    """Sends an archive with a mention and waits until it is ready."""

    def run(name: str, **changes: Any) -> Dataset:
        archive = archive_of(TaskType.SINGLE_LABEL, **changes)
        sent = person.mention("", files=[person.slack.add_file(f"{name}.zip", archive, "application/zip")])
        wait_for(running, person, "is ready", sent["ts"])
        with running.database.read() as session:
            dataset = session.scalars(select(Dataset).where(Dataset.name == name)).one()
            assert dataset.annotation_sets
            return dataset

    return run


def test_by_the_dialog_with_findings_kept_looked_at_and_deleted(
    person: Person, grace_at_slack: Person, running: Bot, database: Database
) -> None:
    person.command("/datasets")
    person.press("Import a dataset", answers(person)[-1])
    assert "Zip or tar archive" in read(person.opened())
    file = person.slack.add_file("lights.zip", with_damage(archive_of(TaskType.SINGLE_LABEL)), "application/zip")
    assert person.fill(name="", files=[file]).payload == {
        "response_action": "errors",
        "errors": {"field:name": "Name must not be empty."},
    }
    person.fill(name="lights", files=[file])
    (root,) = person.slack.messages(person.channel)
    assert "brings in a dataset" in read(root)
    found = wait_for(running, person, "something was left out", root["ts"])
    assert "60 images can be used" in read(found) and "bright/scan 1.png" in read(found)

    grace_at_slack.press("Drop all", found)
    assert any("Only the person who made" in item for item in grace_at_slack.told())
    person.press("List as a file", found)
    (listed,) = [item for item in person.slack.messages(person.channel, root["ts"]) if item.get("files")]
    assert b"scan 1.png" in person.slack.files[listed["files"][0]]["content"]
    person.press("Keep the good part", found)
    assert "is kept: 60 images" in read(person.slack.messages(person.channel, root["ts"])[-1])
    person.press("Drop all", found)
    assert any("kept already" in item for item in person.told())

    person.command("/datasets", "lights")
    assert "60 images" in read(answers(person)[-1])
    person.press("lights", answers(person)[-1])
    shown = answers(person)[-1]
    assert "Images 1–50 of 60" in read(shown) and len(pictures(shown)) == 1 and "Previous" not in str(labels(shown))
    person.press("More images", shown)
    shown = answers(person)[-1]
    assert "Images 51–60 of 60" in read(shown) and len(pictures(shown)) == 1
    person.press("Previous images", shown)
    shown = answers(person)[-1]
    assert "Images 1–50 of 60" in read(shown)

    person.press("Statistics", shown)
    statistics = answers(person)[-1]
    assert "2 classes well" in read(statistics) and len(pictures(statistics)) == 1
    sent = [item for channel in person.slack.channels.values() for item in channel.messages if item.get("files") and item.get("bot_id")]
    numbers = json.loads(person.slack.files[sent[-1]["files"][0]]["content"])
    assert numbers["images"] == 60

    person.press("Delete", shown)
    assert "field:confirmation" in person.fill(confirmation="delete").payload["errors"]  # type: ignore[index]
    person.fill(confirmation="DELETE")
    assert "Deleted the dataset “lights”" in read(person.opened())
    with database.read() as session:
        assert session.scalars(select(Dataset).where(Dataset.name == "lights")).all() == []


def test_combined_and_renamed(person: Person, running: Bot, bring: Callable[..., Dataset], database: Database) -> None:
    bring("monday")
    bring("tuesday", seed=1)
    person.command("/datasets", "monday")
    person.press("monday", answers(person)[-1])
    details = answers(person)[-1]
    person.press("Combine", details)
    before = read(person.opened())
    assert "bright, dark" in before
    person.fill(name="both", others="wednesday")
    assert "wednesday" in read(person.opened()) and "Combine" in person.opened()["submit"]["text"], "said in the dialog, which stays"
    assert person.opened()["blocks"][1]["element"]["initial_value"] == "both", "what was typed is still there"
    person.fill(others="tuesday")
    root = person.slack.messages(person.channel)[-1]
    wait_for(running, person, "“both” is ready: 120 images", root["ts"])

    person.press("Rename", details)
    person.fill(name="both")
    assert "both" in read(person.opened()) and person.opened().get("submit"), "a name that is taken is refused in the dialog"
    person.fill(name="week & <end>")
    assert "Renamed to “week & <end>”" in read(person.opened())
    with database.read() as session:
        assert {"week & <end>", "tuesday", "both"} <= set(session.scalars(select(Dataset.name)))


def test_one_that_a_task_uses_stays(
    person: Person, running: Bot, bring: Callable[..., Dataset], database: Database, settings: Settings
) -> None:
    dataset = bring("in use")
    with database.write() as session:
        create_task(
            session,
            settings,
            training_of(dataset, person="slack:U0000ADA", name="Uses it", plans=[TrainingPlan(image_size=64)]),
        )
    person.command("/datasets", "in use")
    person.press("in use", answers(person)[-1])
    person.press("Delete", answers(person)[-1])
    person.fill(confirmation="DELETE")
    assert "Uses it" in read(person.opened())
    with database.read() as session:
        assert session.get(Dataset, dataset.id) is not None


@pytest.mark.parametrize("allowed", [True, False], ids=["opened-by-the-operator", "not-opened"])
def test_from_a_uri(start_bot: StartBot, slack: FakeSlack, tmp_path: Path, database: Database, allowed: bool) -> None:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "lights.zip").write_bytes(archive_of(TaskType.SINGLE_LABEL, images=20))
    bot = start_bot(chat_import_prefixes=f"file://{tmp_path}/shelf/" if allowed else "s3://elsewhere/")
    person = Person(slack, bot.settle)
    person.command("/datasets")
    person.press("Import a dataset", answers(person)[-1])
    name = f"shelf {allowed}"
    person.fill(name=name, source=f"file://{tmp_path}/shelf/lights.zip")
    if not allowed:
        assert "may not be imported from a chat" in read(person.opened()) and "s3://elsewhere/" in read(person.opened())
        assert slack.messages(person.channel) == [], "no thread is left behind"
        return
    root = slack.messages(person.channel)[-1]
    wait_for(bot, person, f"“{name}” is ready: 20 images", root["ts"])


def test_what_is_no_dataset_says_why(person: Person, running: Bot, database: Database) -> None:
    sent = person.mention("", files=[person.slack.add_file("notes.zip", b"PK\x05\x06" + b"\0" * 18, "application/zip")])
    message = wait_for(running, person, "could not be imported", sent["ts"])
    assert "“notes” could not be imported" in read(message)
    with database.read() as session:
        assert session.scalars(select(Dataset).where(Dataset.name == "notes")).all() == []
