"""A search in its thread and at the desk: progress over all jobs, leaderboard, pictures, every job's curves."""

import re
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from new_tasks import training_of
from PIL import Image
from search_jobs import Search

from bot.desk.desk import HANDLERS, Desk
from bot.notifier import Notifier
from core.access import Actor, Place
from core.db.session import Database
from core.db.tables import Task
from core.errors import InvalidInputError, NotFoundError
from core.events import Noticed
from core.settings import Settings
from core.storage import Storage
from core.tasks.actions import stop_task
from core.tasks.hyperparameters import value_text
from core.tasks.lifecycle import fail_job, record_event
from core.vocabulary import Tuning
from core.wizard.screens import Facts, Menu, Message, Picture, ProgressBar, Text

THREAD = Place("slack", "C1", "T1")


class Channel:
    """A chat that keeps what is posted."""

    face = "slack"
    edits_per_minute = 0

    def __init__(self) -> None:
        self.posts: dict[str, Message] = {}

    def wants(self, place: Place) -> bool:
        return True

    def find(self, place: Place, key: str) -> str:
        return key if key in self.posts else ""

    def post(self, place: Place, message: Message) -> str:
        self.posts[message.key] = message
        return message.key

    def edit(self, place: Place, message_id: str, message: Message) -> str:
        self.posts[message_id] = message
        return message_id

    def texts(self) -> list[str]:
        return [words(message.blocks) for message in self.posts.values()]


def words(blocks: Any) -> str:
    parts = []
    for block in blocks:
        if isinstance(block, Text):
            parts.append(block.body)
        elif isinstance(block, ProgressBar):
            parts.append(block.caption)
        elif isinstance(block, Facts):
            parts += [block.title, *(f"{name}: {value}" for name, value in block.rows)]
    return "\n".join(parts)


@pytest.fixture
def search(database: Database, settings: Settings, ada: Actor, add_dataset: Callable[..., Any]) -> Callable[..., Search]:
    pets = add_dataset("pets")

    def make(tuning: Tuning = Tuning.RANDOM, jobs: int = 4, **plan: Any) -> Search:
        new = training_of(pets, workspace=ada.workspace, person=ada.person, name="Pets", plans=(), place=THREAD)
        return Search(database, settings, new, tuning, jobs, **plan)

    return make


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
def tell(database: Database, storage: Storage, channel: Channel) -> Callable[[], list[str]]:
    """What the thread reads like now, to a bot that has just started."""

    def texts() -> list[str]:
        Notifier(database, storage, (channel,), lambda: 1).tick()
        return channel.texts()

    return texts


@pytest.fixture
def desk(database: Database, storage: Storage, settings: Settings) -> Desk:
    return Desk(database, storage, settings)


def test_the_thread_shows_progress_over_all_jobs_and_the_best_few(search: Any, tell: Any, channel: Channel) -> None:
    found = search(jobs=8, epochs=4)
    assert "8 training jobs: random" in tell()[0]
    for number in (1, 2):
        found.claim(number)
    found.epoch(1, 0.6)
    found.epoch(1, 0.7)
    found.epoch(2, 0.9)
    text = tell()[0]
    assert "9% of 8 jobs · 2 running, 6 waiting" in text
    assert "Best by accuracy · learning rate · weight decay · momentum" in text
    best = next(line for line in text.splitlines() if line.startswith("1. "))
    values = [value_text(found.job(2).plan[name]) for name in ("learning_rate", "weight_decay", "momentum")]
    assert best == f"1. Job 2: 90.0 % · {' · '.join(values)} · epoch 1 of 4"
    (message,) = channel.posts.values()
    (picture,) = [block for block in message.blocks if isinstance(block, Picture)]
    assert picture.alt == "Scores against hyperparameters after 3 epochs of all jobs"
    assert {button.action for button in message.buttons} == {"task:stop", "task:show", "task:jobs", "task:hyperparameters"}


def test_remarks_of_single_jobs_stay_out_of_the_thread_and_are_among_the_job_s_details(
    search: Any, tell: Any, desk: Desk, ada: Actor
) -> None:
    found = search()
    found.claim(3)
    found.epoch(3, 0.5)
    found.do(3, record_event, Noticed("Ended early after epoch 1: hopeless."), sequence=99)
    found.claim(1)
    found.do(1, fail_job, "It diverged.", "Lower the learning rate.")
    texts = tell()
    assert not any("hopeless" in text for text in texts)
    assert any("Training job 1 of 4 failed: It diverged." in text for text in texts)
    assert "hopeless" in words(desk.press(ada, THREAD, "task:curves", f"{found.task.id} 3").blocks)


def test_the_result_says_how_many_finished_stopped_and_failed(search: Any, tell: Any) -> None:
    found = search(jobs=4, epochs=2)
    for number, score in ((1, 0.6), (2, 0.9), (3, 0.7)):
        found.claim(number)
        found.epoch(number, score)
    found.claim(4)
    found.do(4, fail_job, "It diverged.", "Lower it.")
    found.epoch(1, 0.65)
    for number, score in ((1, 0.65), (2, 0.9), (3, 0.7)):
        found.finish(number, score)
    result = tell()[-1]
    assert "“Pets” is trained." in result and "Accuracy: 90.0 %" in result
    assert "4 training jobs: 3 finished (2 of them early), 0 stopped, 1 failed" in result
    (best,) = [line for line in result.splitlines() if line.startswith("1. ")]
    assert best.startswith("1. Job 2: 90.0 %") and best.endswith("ended early after epoch 1")


def test_stopped_with_the_best_kept_says_so_too(search: Any, tell: Any, ada: Actor, database: Database) -> None:
    population = search(Tuning.POPULATION, jobs=3)
    for number, score in ((1, 0.6), (2, 0.9), (3, 0.7)):
        population.slice(number, score)
    with database.write() as session:
        stop_task(session, ada, session.get_one(Task, population.task.id), "keep")
    assert "Stopping" in tell()[0]
    job = population.job(2)
    assert job.ending == "stopped"
    population.claim(2)
    from core.tasks.lifecycle import NewModel, complete_task

    population.do(2, complete_task, NewModel("models/x", ["a"]))
    assert "3 training jobs: 0 finished, 3 stopped, 0 failed" in tell()[-1]


def test_a_population_that_copies_says_how_often(search: Any, tell: Any) -> None:
    population = search(Tuning.POPULATION, jobs=5)
    for number, score in enumerate((0.1, 0.5, 0.9, 0.6, 0.7), 1):
        population.slice(number, score)
    population.claim(1)
    text = tell()[0]
    assert "5% of 5 jobs · 1 running, 4 waiting" in text and "1 copy of a better member so far." in text


def test_why_auto_has_chosen_stands_in_the_thread(search: Any, tell: Any, database: Database) -> None:
    found = search()
    with database.write() as session:
        session.get_one(Task, found.task.id).search = {**found.task.search, "why": "The budget holds 8 trainings."}
    assert "The budget holds 8 trainings." in tell()[0]


# ---------------------------------------------------------------- at the desk


def test_the_leaderboard_lists_all_jobs_page_by_page_with_its_pictures(search: Any, desk: Desk, ada: Actor, storage: Storage) -> None:
    found = search(jobs=30)
    for number in range(1, 21):
        found.claim(number)
        found.epoch(number, number / 40)
    first = desk.press(ada, THREAD, "task:jobs", found.task.id)
    text = words(first.blocks)
    assert "Learning rate: 0.00001..0.01" in text
    assert "Jobs 1–12 of 30, the best first: accuracy · learning rate" in text and "1. Job 20: 50.0 %" in text and "12. Job 9" in text
    (picture,) = [block for block in first.blocks if isinstance(block, Picture)]
    assert Image.open(BytesIO(storage.read(picture.key))).width > 1000
    (menu,) = [control for control in first.controls if isinstance(control, Menu)]
    assert menu.options[0].value == f"{found.task.id} 20" and menu.options[0].hint.startswith("learning rate ")
    assert {control.action for control in first.controls} <= HANDLERS.keys()
    others = next(control for control in first.controls if getattr(control, "label", "") == "Others ▶")
    second = desk.press(ada, THREAD, others.action, others.value)
    assert "Jobs 13–24 of 30" in words(second.blocks) and re.search(r"Job 21: – · [\d.]+ · [\d.]+ · [\d.]+ · waiting", words(second.blocks))
    assert not any(isinstance(block, Picture) for block in second.blocks)


def test_a_population_s_leaderboard_draws_its_lineage(search: Any, desk: Desk, ada: Actor, storage: Storage) -> None:
    population = search(Tuning.POPULATION, jobs=5)
    for number, score in enumerate((0.1, 0.5, 0.9, 0.6, 0.7), 1):
        population.slice(number, score)
    population.claim(1)
    pictures = [block for block in desk.press(ada, THREAD, "task:jobs", population.task.id).blocks if isinstance(block, Picture)]
    assert [picture.key.rpartition("/")[2] for picture in pictures] == ["scores.png", "lineage.png"]
    assert all(Image.open(BytesIO(storage.read(picture.key))).size for picture in pictures)


def test_every_job_s_curves_can_be_asked_for(search: Any, desk: Desk, ada: Actor, storage: Storage) -> None:
    found = search(jobs=2)
    assert "has not finished an epoch" in words(desk.press(ada, THREAD, "task:curves", f"{found.task.id} 2").blocks)
    found.claim(1)
    for score in (0.5, 0.9, 0.8):
        found.epoch(1, score)
    found.epoch(1, 0.9, loss=0.2)  # of equal scores the lower loss, as the training has it
    reply = desk.press(ada, THREAD, "task:curves", f"{found.task.id} 1")
    assert "Best epoch: 4, 90.0 %" in words(reply.blocks)
    (picture,) = [block for block in reply.blocks if isinstance(block, Picture)]
    assert Image.open(BytesIO(storage.read(picture.key))).width > 1000
    for value in (f"{found.task.id} 3", f"{found.task.id} x", f"{found.task.id}"):
        with pytest.raises((NotFoundError, InvalidInputError)):
            desk.press(ada, THREAD, "task:curves", value)


def test_strangers_see_no_jobs(search: Any, desk: Desk) -> None:
    found = search()
    eve = replace(Actor("elsewhere", "slack:U9", "Eve"), admin=True)
    for action, value in (("task:jobs", found.task.id), ("task:curves", f"{found.task.id} 1")):
        with pytest.raises(NotFoundError):
            desk.press(eve, THREAD, action, value)
