"""A task's thread at Slack: told once, also after crashes; and no trouble of Slack's ever hurts a training."""

import itertools
import time

import pytest
from new_tasks import training_of
from slack_person import Person, elements, labels, pictures, read

import bot.notifier
from bot.slack.poster import SlackPoster
from core.access import Place
from core.db.session import Database
from core.db.tables import Delivery, Job, Task
from core.events import Progress
from core.settings import Settings
from core.storage import Storage
from core.tasks.creation import create_task
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.lifecycle import NewModel, claim_job, complete_task, fail_job, finish_job, record_event


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bot.notifier, "EDIT_SECONDS", 0.0)
    monkeypatch.setattr(SlackPoster, "edits_per_minute", 0)


class Clock:
    """The poster's: it stands still, so that no wait is over by itself on a slow machine."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Training:
    """A task with its thread, driven by the same calls as workers make."""

    def __init__(self, person: Person, running, database: Database, settings: Settings, storage: Storage, dataset) -> None:
        self.person, self.running, self.database, self.storage = person, running, database, storage
        self.ticks = itertools.count()
        self.root = person.slack.say(person.channel, person.user, "go")["ts"]
        with database.write() as session:
            new = training_of(
                dataset,
                person="slack:U0000ADA",
                name="Pets <!channel>",
                plans=[TrainingPlan(image_size=64)],
                place=Place("slack", f"T0000FAKE/{person.channel}", self.root),
            )
            self.task = create_task(session, settings, new)
            self.job = session.query(Job).one()

    def claim(self) -> None:
        with self.database.write() as session:
            assert claim_job(session, self.job.id, 1, worker="w", device="CPU")

    def progress(self, number: int) -> None:
        event = Progress(number, 10, 1, 10, number / 10, 0.5, 0.001, 400, seconds_left=60, metric=0.9, metric_name="accuracy")
        with self.database.write() as session:
            record_event(session, self.job.id, 1, event, sequence=number)

    def finish(self) -> None:
        self.storage.write("models/x/curves.png", PNG)
        with self.database.write() as session:
            finish_job(session, self.job.id, 1, score=0.986, metrics={"accuracy": 0.986, "baseline_accuracy": 0.114})
        with self.database.write() as session:
            complete_task(session, self.job.id, 1, NewModel("models/x", ["a", "b"], report={"curves": "models/x/curves.png"}))

    def tick(self) -> bool:
        return self.running.notifier.tick()

    def thread(self) -> list[dict]:
        return self.person.slack.messages(self.person.channel, self.root)

    def state(self) -> str:
        with self.database.read() as session:
            return session.get_one(Task, self.task.id).state


PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 64


@pytest.fixture
def training(person: Person, running, database: Database, settings: Settings, storage: Storage, add_dataset) -> Training:
    return Training(person, running, database, settings, storage, add_dataset("pets"))


def test_one_changing_message_then_the_result_with_pictures_and_a_line_in_the_channel(training: Training) -> None:
    training.person.slack.looks_until_ready = 3
    training.tick()
    training.claim()
    training.tick()
    training.progress(3)
    training.tick()
    (progress,) = training.thread()
    assert "██████░" in read(progress) and "epoch 3 of 10" in read(progress) and "90.0 %" in read(progress)
    assert any("Stop" in item for item in labels(progress))
    training.finish()
    training.tick()
    progress, result = training.thread()
    assert "98.6 %" in read(result) and len(pictures(result)) == 1
    assert "Test an image" in labels(result)
    announced = training.person.slack.messages(training.person.channel)[-1]
    assert "is trained: accuracy 98.6 %" in read(announced) and "Pets <!channel>" in read(announced)
    assert not training.tick()


def test_a_lost_answer_posts_nothing_twice(training: Training) -> None:
    training.tick()
    training.claim()
    training.finish()
    training.person.slack.fail("chat.postMessage", "internal_error", after=True)
    training.tick()
    training.running.restart()
    for _ in range(3):
        training.tick()
    assert len(training.thread()) == 2
    announcements = [item for item in training.person.slack.messages(training.person.channel) if "📣" in read(item)]
    assert len(announcements) == 1


def test_a_deleted_progress_message_is_posted_afresh(training: Training) -> None:
    training.tick()
    channel = training.person.slack.channels[training.person.channel]
    channel.messages = [item for item in channel.messages if item["ts"] == training.root]
    training.claim()
    training.tick()
    assert len(training.thread()) == 1


def test_an_archived_channel_never_hurts_the_training(training: Training, database: Database) -> None:
    training.tick()
    training.person.slack.channels[training.person.channel].archived = True
    training.claim()
    training.tick()
    training.finish()
    training.tick()
    assert training.state() == "finished"
    with database.read() as session:
        assert session.get_one(Delivery, (training.task.id, "slack")).done


def test_a_picture_that_slack_never_gets_ready_does_not_hold_the_result_back(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.running.face.board.gallery, "pause", lambda seconds: None)
    training.person.slack.looks_until_ready = 10**6
    training.tick()
    training.claim()
    training.finish()
    training.tick()
    result = training.thread()[-1]
    assert "98.6 %" in read(result) and "is not available" in read(result) and not pictures(result)


def test_stop_from_the_thread_by_the_creator_only(training: Training, grace_at_slack: Person) -> None:
    training.tick()
    progress = training.thread()[0]
    grace_at_slack.press("Take out", progress)
    assert training.state() == "waiting"
    assert any("Only the person" in item for item in grace_at_slack.told())
    training.person.press("Take out", progress)
    assert training.state() == "stopped"
    training.tick()
    assert "was stopped" in read(training.thread()[-1])


def test_a_rate_limit_is_obeyed_without_holding_others_up(training: Training) -> None:
    clock = training.running.face.poster.clock = Clock()
    training.person.slack.fail("chat.postMessage", retry_after=300)
    began = time.monotonic()
    training.tick()
    clock.seconds = 299
    training.tick()
    assert time.monotonic() - began < 100 and len(training.person.slack.calls_of("chat.postMessage")) == 1
    clock.seconds = 300
    training.tick()
    assert len(training.thread()) == 1


def test_a_rate_limit_between_result_and_announcement_loses_neither_and_doubles_neither(training: Training) -> None:
    training.tick()
    training.claim()
    training.finish()
    sent = training.person.slack.calls_of("chat.postMessage")
    clock = training.running.face.poster.clock = Clock()
    training.person.slack.fail("chat.postMessage", retry_after=60, skip=1)
    training.tick()
    assert len(training.person.slack.calls_of("chat.postMessage")) == len(sent) + 2  # the second was the announcement
    clock.seconds = 60
    for _ in range(3):
        training.tick()
    assert len(training.thread()) == 2
    assert len([item for item in training.person.slack.messages(training.person.channel) if "📣" in read(item)]) == 1


def test_an_answer_that_is_lost_while_the_bot_goes_on_doubles_nothing(training: Training) -> None:
    training.tick()
    training.claim()
    training.tick()
    training.finish()
    training.running.face.poster.clock = lambda: time.monotonic() + 10**6 * next(training.ticks)
    training.person.slack.fail("chat.postMessage", "internal_error", after=True)
    for _ in range(4):
        training.tick()
    assert len(training.thread()) == 2


def test_results_are_announced_where_the_operator_wants_them(training: Training) -> None:
    news = training.person.slack.add_channel("C0000NEWS", "news")
    training.running.face.poster.announcements = news.id
    training.tick()
    training.claim()
    training.finish()
    training.tick()
    assert ["is trained" in read(item) for item in training.person.slack.messages(news.id)] == [True]
    assert not [item for item in training.person.slack.messages(training.person.channel) if "📣" in read(item)]


def test_a_failure_says_what_to_do_and_leads_to_the_details(training: Training, database: Database) -> None:
    training.tick()
    training.claim()
    with database.write() as session:
        fail_job(session, training.job.id, 1, "The GPU's memory is too small.", "Choose a smaller network.")
    training.tick()
    told = training.thread()[-1]
    assert "The GPU's memory is too small." in read(told) and "Choose a smaller network." in read(told)
    training.person.press("Details", told)
    assert "resnet18" in read(training.person.opened())


def test_stopping_asks_first_and_keeps_or_discards(training: Training) -> None:
    training.tick()
    training.claim()
    training.progress(3)
    training.tick()
    progress = training.thread()[0]
    asked = {button["text"]["text"]: button["confirm"]["text"]["text"] for _, button in elements(progress["blocks"]) if "confirm" in button}
    assert "keep the best model" in asked["Stop, keep the best"] and "throw away" in asked["Stop and discard"]
    training.person.press("Stop, keep the best", progress)
    training.tick()
    assert training.state() == "stopping" and "Stopping" in read(training.thread()[0])
    with training.database.read() as session:
        assert session.get_one(Task, training.task.id).stop_mode == "keep"


def test_hyperparameters_come_as_a_file_from_the_thread(training: Training) -> None:
    training.tick()
    training.person.press("Hyperparameters", training.thread()[0])
    (sent,) = [item for item in training.thread() if item.get("files")]
    assert b'"learning_rate"' in training.person.slack.files[sent["files"][0]]["content"]


def test_buttons_of_a_thread_and_of_a_list_work_after_a_restart(training: Training) -> None:
    person = training.person
    training.tick()
    training.claim()
    training.finish()
    training.tick()
    person.command("/models")
    listed = [item for used in person.slack.responses.values() for item in used][-1]
    training.running.restart()
    person.settle = training.running.settle
    result = training.thread()[-1]
    person.press("Details", result)
    assert "resnet18" in read(person.opened())
    person.press("Test an image", result)
    assert "Image" in read(person.opened()) and person.opened()["submit"]["text"] == "Test"
    person.press("Pets", listed)
    assert "Result on its validation images" in person.told()[-1]
    training.tick()
    assert len(training.thread()) == 2, "nothing is told again"
