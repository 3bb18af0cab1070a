"""What a task's thread is told: everything that matters, once, in order, and never too often."""

import io
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from new_tasks import training_of
from PIL import Image
from sqlalchemy import select

import bot.curves
import bot.notifier
from bot.notifier import ChatError, Notifier
from core.access import Actor, Place
from core.clock import now
from core.db.session import Database
from core.db.tables import Delivery, Epoch, Job, Task
from core.events import Noticed, Progress
from core.settings import Settings
from core.storage import Storage
from core.tasks.actions import stop_task
from core.tasks.creation import create_task
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.lifecycle import NewModel, claim_job, complete_task, fail_job, finish_job, hand_back, heartbeat, record_epoch, record_event
from core.tasks.light import claim_light_job, fail_light_job, heartbeat_light_job, submit_light_job
from core.wizard.screens import Facts, Message, Picture, ProgressBar, Text


@dataclass
class Channel:
    """A chat that keeps what is posted, as a platform does; it survives the bot."""

    face: str = "slack"
    edits_per_minute: int = 0
    posts: dict[str, Message] = field(default_factory=dict)
    edits: list[Message] = field(default_factory=list)
    failures: int = 0
    gone: bool = False
    crash_after_post: bool = False

    def wants(self, place: Place) -> bool:
        return True

    def find(self, place: Place, key: str) -> str:
        return key if key in self.posts else ""

    def post(self, place: Place, message: Message) -> str:
        if self.gone:
            raise ChatError("channel_not_found", gone=True)
        if self.failures:
            self.failures -= 1
            raise ChatError("service unavailable")
        assert message.key not in self.posts, "posted twice"
        self.posts[message.key] = message
        if self.crash_after_post:
            raise KeyboardInterrupt
        return message.key

    def edit(self, place: Place, message_id: str, message: Message) -> str:
        self.posts[message_id] = message
        self.edits.append(message)
        return message_id

    def texts(self) -> list[str]:
        return [words(message) for message in self.posts.values()]


def words(message: Message) -> str:
    parts = []
    for block in message.blocks:
        if isinstance(block, Text):
            parts.append(block.body)
        elif isinstance(block, ProgressBar):
            parts.append(block.caption)
        elif isinstance(block, Facts):
            parts += [f"{name}: {value}" for name, value in block.rows]
    return "\n".join(parts)


@dataclass
class Thread:
    """A task with its thread, driven by the same calls as workers make."""

    database: Database
    settings: Settings
    task: Task
    job: Job
    channel: Channel
    notifier: Notifier
    sequence: int = 0

    def claim(self) -> None:
        with self.database.write() as session:
            assert claim_job(session, self.job.id, 1, worker="w", device="CPU")

    def tell(self, event: Any) -> None:
        self.sequence += 1
        with self.database.write() as session:
            record_event(session, self.job.id, 1, event, sequence=self.sequence)

    def finish(self) -> None:
        with self.database.write() as session:
            metrics = {"accuracy": 0.986, "baseline_accuracy": 0.114}
            finish_job(session, self.job.id, 1, score=0.986, metrics=metrics)
        with self.database.write() as session:
            complete_task(session, self.job.id, 1, NewModel(f"models/{self.task.id}", ["a", "b"], report={"curves": "models/x/curves.png"}))

    def restarted(self) -> Notifier:
        return Notifier(self.database, self.notifier.storage, (self.channel,), lambda: 1)


@pytest.fixture
def thread(database: Database, storage: Storage, settings: Settings, ada: Actor, add_dataset) -> Thread:
    pets = add_dataset("pets")
    with database.write() as session:
        new = training_of(
            pets,
            workspace=ada.workspace,
            person=ada.person,
            name="Pets",
            plans=[TrainingPlan(image_size=64)],
            place=Place("slack", "C1", "T1"),
        )
        task = create_task(session, settings, new)
        job = session.query(Job).one()
    channel = Channel()
    return Thread(database, settings, task, job, channel, Notifier(database, storage, (channel,), lambda: 1))


def progress(epoch: int, fraction: float, **more: Any) -> Progress:
    return Progress(
        epoch=epoch,
        epochs=10,
        step=1,
        steps=10,
        fraction=fraction,
        loss=0.5,
        learning_rate=0.001,
        images_per_second=400,
        seconds_left=60,
        **more,
    )


class Clock:
    """A clock that the test moves on."""

    def __init__(self) -> None:
        self.time = now()

    def __call__(self) -> datetime:
        return self.time

    def passes(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(bot.notifier, "now", clock)
    return clock


def test_a_whole_training_is_one_changing_message_and_a_result(thread: Thread, clock: Clock) -> None:
    thread.notifier.tick()
    assert len(thread.channel.posts) == 1 and "next in the queue" in thread.channel.texts()[0]
    thread.claim()
    clock.passes(5)
    thread.notifier.tick()
    assert "started on CPU" in thread.channel.texts()[0]
    thread.tell(progress(3, 0.25, metric=0.9, metric_name="accuracy"))
    clock.passes(5)
    thread.notifier.tick()
    assert "25% · epoch 3 of 10, about 60 s left" in thread.channel.texts()[0]
    assert "Validation accuracy: 90.0 %" in thread.channel.texts()[0]
    thread.finish()
    assert thread.notifier.tick()
    assert len(thread.channel.posts) == 2
    first, result = thread.channel.texts()
    assert "Finished." in first
    assert "Accuracy: 98.6 %" in result and "baseline: 11.4 %" in result and "Model: Pets" in result
    assert f"models/{thread.task.id}" not in result, "a path of the host's is none of a chat's business"
    assert list(thread.channel.posts.values())[1].announcement == "“Pets” is trained: accuracy 98.6 %."
    assert not thread.notifier.tick(), "nothing is open any more"


def test_the_latest_curves_stand_in_the_progress_message(thread: Thread, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(epochs: int) -> list[Picture]:
        with thread.database.write() as session:
            values = {"train_loss": 1 / epochs, "val_loss": 1.2 / epochs, "score": 1 - 0.3 / epochs, "train_accuracy": 0.8}
            session.add(Epoch(job_id=thread.job.id, number=epochs, values=values))
        thread.tell(progress(epochs + 1, epochs / 10, metric=0.9, metric_name="accuracy"))
        clock.passes(5)
        thread.notifier.tick()
        (message,) = thread.channel.posts.values()
        return [block for block in message.blocks if isinstance(block, Picture)]

    thread.claim()
    assert trained(1) == [], "one epoch is no curve"
    (picture,) = trained(2)
    assert "2 epochs" in picture.alt
    with Image.open(io.BytesIO(thread.notifier.storage.read(picture.key))) as drawn:
        assert drawn.width > 600
    assert trained(3) == [picture], "drawn again only after a while"
    monkeypatch.setattr(bot.curves, "DRAW_SECONDS", 0)
    assert "4 epochs" in trained(4)[0].alt
    thread.finish()
    thread.notifier.tick()
    progress_message, _ = thread.channel.posts.values()
    assert not any(isinstance(block, Picture) for block in progress_message.blocks), "the result has the final ones"


def test_progress_is_not_edited_more_often_than_every_three_seconds(thread: Thread, clock: Clock) -> None:
    thread.claim()
    thread.notifier.tick()
    for step in range(30):
        thread.tell(progress(1, step / 100))
        clock.passes(0.5)
        thread.notifier.tick()
    assert len(thread.channel.edits) == 5  # in 15 s


def test_after_an_hour_progress_is_edited_once_a_minute(thread: Thread, clock: Clock) -> None:
    thread.claim()
    thread.notifier.tick()
    clock.passes(3601)
    thread.notifier.tick()
    thread.channel.edits.clear()
    for step in range(24):
        thread.tell(progress(1, step / 100))
        clock.passes(10)
        thread.notifier.tick()
    assert len(thread.channel.edits) == 4  # in 240 s


def test_a_crash_between_post_and_cursor_posts_nothing_twice(thread: Thread) -> None:
    thread.notifier.tick()
    thread.claim()
    thread.finish()
    thread.channel.crash_after_post = True
    with pytest.raises(KeyboardInterrupt):
        thread.notifier.tick()
    thread.channel.crash_after_post = False
    restarted = thread.restarted()
    restarted.tick()
    assert len(thread.channel.posts) == 2
    assert not restarted.tick()


def test_what_happened_while_the_bot_was_down_is_told_afterwards(thread: Thread) -> None:
    thread.notifier.tick()
    thread.claim()
    thread.tell(Noticed("Resumed after its worker was lost.", ""))
    thread.finish()
    thread.restarted().tick()
    texts = thread.channel.texts()
    assert len(texts) == 3 and "Resumed" in texts[1] and "98.6 %" in texts[2]


def test_a_chat_that_fails_is_told_later_and_hurts_no_training(thread: Thread) -> None:
    thread.notifier.tick()
    thread.claim()
    thread.finish()
    thread.channel.failures = 2
    thread.notifier.tick()
    thread.notifier.tick()
    assert len(thread.channel.posts) == 1
    thread.notifier.tick()
    assert len(thread.channel.posts) == 2
    with thread.database.read() as session:
        assert session.get_one(Task, thread.task.id).state == "finished"


def test_a_channel_that_is_gone_is_given_up(thread: Thread) -> None:
    thread.channel.gone = True
    thread.notifier.tick()
    assert not thread.notifier.tick()
    with thread.database.read() as session:
        assert session.get_one(Delivery, (thread.task.id, "slack")).done


def test_the_result_tells_the_time_on_the_worker(thread: Thread) -> None:
    thread.claim()
    with thread.database.write() as session:
        heartbeat(session, thread.job.id, 1, device_seconds=600.0)
        session.get_one(Task, thread.task.id).started_at = now() - timedelta(hours=5)  # it waited long after a loss
    thread.finish()
    thread.notifier.tick()
    assert "“Pets” is trained. It took 10 min." in thread.channel.texts()[1]
    assert "Finished. It took 10 min." in thread.channel.texts()[0]


def test_the_result_says_how_the_curves_read(thread: Thread, storage: Storage) -> None:
    card = {"reading": {"text": "Both losses fall."}, "remarks": [{"what": "Told already.", "remedy": ""}]}
    storage.write(f"models/{thread.task.id}/model_card.json", json.dumps(card).encode())
    thread.claim()
    thread.finish()
    thread.notifier.tick()
    result = thread.channel.texts()[-1]
    assert result.count("Assessment: Both losses fall.") == 1 and "Told already." not in result


def test_a_failure_says_what_happened_and_what_to_do_and_no_trace(thread: Thread) -> None:
    thread.claim()
    with thread.database.write() as session:
        fail_job(session, thread.job.id, 1, "The disk is full.", "Free some space, then start again.")
    thread.notifier.tick()
    text = thread.channel.texts()[-1]
    assert "The disk is full." in text and "Free some space" in text and "Traceback" not in text


def test_stopping_is_said_until_it_is_true(thread: Thread, clock: Clock, ada: Actor) -> None:
    thread.claim()
    thread.notifier.tick()
    with thread.database.write() as session:
        stop_task(session, ada, session.get_one(Task, thread.task.id), "discard")
    clock.passes(5)
    thread.notifier.tick()
    assert "Stopping" in thread.channel.texts()[0]
    assert "task:stop" not in {button.action for button in next(iter(thread.channel.posts.values())).buttons}


def test_an_interrupted_training_says_where_it_goes_on_and_who_makes_its_model(thread: Thread, clock: Clock, ada: Actor) -> None:
    thread.claim()
    told = progress(3, 0.3, epoch_ended=True)
    with thread.database.write() as session:
        record_epoch(session, thread.job.id, 1, 3, {}, score=0.5, metrics={"accuracy": 0.5}, is_best=True, event=told, sequence=1)
        hand_back(session, thread.job.id, 1)
    thread.notifier.tick()
    assert thread.channel.texts()[0].endswith("Waiting: next in the queue. It goes on after epoch 3.")
    with thread.database.write() as session:
        stop_task(session, ada, session.get_one(Task, thread.task.id), "keep")
    clock.passes(5)
    thread.notifier.tick()
    assert thread.channel.texts()[0].endswith("Stopping: the next free worker makes its model of the best epoch.")
    assert "epoch 3 of" not in thread.channel.texts()[0], "nobody is at it"


def test_a_task_taken_out_of_the_queue_is_told_as_stopped(thread: Thread, ada: Actor) -> None:
    thread.notifier.tick()
    with thread.database.write() as session:
        stop_task(session, ada, session.get_one(Task, thread.task.id), "discard")
    thread.notifier.tick()
    assert "was stopped; nothing was kept" in thread.channel.texts()[-1]
    assert not thread.notifier.tick()


def test_a_deleted_task_closes_its_thread_quietly(thread: Thread, ada: Actor) -> None:
    from core.tasks.actions import delete_task

    thread.notifier.tick()
    with thread.database.write() as session:
        delete_task(session, ada, session.get_one(Task, thread.task.id))
    assert not thread.notifier.tick()


def test_without_a_worker_waiting_says_why(thread: Thread) -> None:
    Notifier(thread.database, thread.notifier.storage, (thread.channel,), lambda: 0).tick()
    assert "no training worker is running" in thread.channel.texts()[0]


def test_where_threads_share_a_quota_each_changes_the_more_rarely_the_more_there_are(
    database: Database, storage: Storage, settings: Settings, add_dataset: Any, ada: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pets = add_dataset("pets")
    for number in range(8):
        with database.write() as session:
            new = training_of(
                pets,
                workspace=ada.workspace,
                person=ada.person,
                name=f"Pets {number}",
                plans=[TrainingPlan(image_size=64)],
                place=Place("slack", "T/C", f"{number}"),
            )
            create_task(session, settings, new)
    with database.write() as session:
        jobs = list(session.scalars(select(Job.id)))
        for job in jobs:
            claim_job(session, job, 1, worker="w", device="CPU")
    channel = Channel(edits_per_minute=40)
    notifier = Notifier(database, storage, (channel,), lambda: 1)
    clock = now()
    monkeypatch.setattr(bot.notifier, "now", lambda: clock)
    notifier.tick()
    for second in range(1, 31):
        clock += timedelta(seconds=1)
        for job in jobs:
            with database.write() as session:
                record_event(session, job, 1, progress(second, second / 100), sequence=second)
        notifier.tick()
    assert 16 <= len(channel.edits) <= 20
    assert len({message.key for message in channel.edits}) == 8


def test_imports_and_trainings_share_what_the_platform_takes(
    thread: Thread, database: Database, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One training and eleven imports at once: forty edits a minute, not twelve every three seconds."""
    place = Place("slack", "T/C", "2")
    with database.write() as session:
        jobs = [
            submit_light_job(session, workspace="default", person="slack:U1", kind="import", payload={"name": f"{number}"}, place=place).id
            for number in range(11)
        ]
        for job in jobs:
            claim_light_job(session, job, 1, worker="w")
    thread.claim()
    channel = Channel(edits_per_minute=40)
    notifier = Notifier(database, storage, (channel,), lambda: 1)
    clock = now() + timedelta(seconds=bot.notifier.LIGHT_SECONDS + 1)
    monkeypatch.setattr(bot.notifier, "now", lambda: clock)
    notifier.tick()
    assert sum("is being imported" in text for text in channel.texts()) == 11
    for second in range(1, 61):
        clock += timedelta(seconds=1)
        with database.write() as session:
            record_event(session, thread.job.id, 1, progress(second, second / 100), sequence=second)
            for job in jobs:
                heartbeat_light_job(session, job, 1, {"done": second, "total": 100})
        notifier.tick()
    assert 30 <= len(channel.edits) <= 40
    assert len({message.key for message in channel.edits}) == 12
    with database.write() as session:
        fail_light_job(session, jobs[0], 1, "There is no image in it.", "Look into the archive.")
    notifier.tick()
    assert "There is no image in it." in str(channel.posts[f"light:{jobs[0]}"].blocks), "the end is told at once"


def test_who_sits_at_the_host_is_told_where_the_model_lies(thread: Thread, database: Database) -> None:
    with database.write() as session:
        session.get_one(Delivery, (thread.task.id, "slack")).place = Place("terminal", "ada", "1").to_json()
    thread.claim()
    thread.finish()
    thread.notifier.tick()
    assert f"models/{thread.task.id}" in thread.channel.texts()[-1]


def test_an_import_that_takes_its_time_tells_how_far_it_is(
    database: Database, storage: Storage, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = now()
    monkeypatch.setattr(bot.notifier, "now", lambda: clock)
    with database.write() as session:
        job = submit_light_job(session, workspace="default", person="slack:U1", kind="import", payload={"name": "pets"}, place=place)
    channel = Channel(face=place.face)
    notifier = Notifier(database, storage, (channel,))
    assert notifier.tick() and not channel.posts
    clock += timedelta(seconds=bot.notifier.LIGHT_SECONDS + 1)
    notifier.tick()
    (waiting,) = channel.posts.values()
    assert "no light worker has taken it" in str(waiting.blocks)
    with database.write() as session:
        claim_light_job(session, job.id, 1, worker="w")
    for done in (1200, 1300, 5000):
        with database.write() as session:
            heartbeat_light_job(session, job.id, 1, {"done": done, "total": 5000})
        clock += timedelta(seconds=2)  # less than there must lie between two edits
        notifier.tick()
        if done == 1300:
            notifier = Notifier(database, storage, (channel,))  # another process takes over
    (bar,) = [block for message in channel.posts.values() for block in message.blocks if isinstance(block, ProgressBar)]
    assert "of 5,000 images" in bar.caption and 1 <= len(channel.edits) <= 2
    with database.write() as session:
        fail_light_job(session, job.id, 1, "There is no image in it.", "Look into the archive.")
    clock += timedelta(seconds=2)
    assert notifier.tick() and not notifier.tick()
    assert [key.split(":")[-1] for key in channel.posts] == ["progress", job.id]
    assert "There is no image in it. Look into the archive." in str(channel.posts[f"light:{job.id}"].blocks)
