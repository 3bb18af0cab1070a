"""A training is followed in the terminal until it ends, whoever started it and wherever."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from new_tasks import training_of
from rich.console import Console
from sqlalchemy import select

from bot.desk.desk import Desk
from bot.terminal import chat as chat_module
from bot.terminal import counter, thread
from bot.terminal.chat import Chat
from core.access import Actor, Place
from core.db.session import Database
from core.db.tables import Delivery, Job, Task
from core.events import Progress
from core.settings import Settings
from core.storage import Storage
from core.tasks.creation import create_task
from core.tasks.lifecycle import NewModel, claim_job, complete_task, finish_job, record_event
from core.wizard.conversation import Conversation


@pytest.fixture
def chat(database: Database, storage: Storage, settings: Settings, ada: Actor) -> Chat:
    conversation = Conversation(database, storage, settings)
    console = Console(file=io.StringIO(), width=120)
    return Chat(conversation, Desk(database, storage, settings), ada, console, lambda: 1, lambda error: pytest.fail(str(error)))


def shown(chat: Chat) -> str:
    return " ".join(chat.console.file.getvalue().split())  # type: ignore[attr-defined]


@pytest.fixture
def running(database: Database, settings: Settings, add_dataset: Any) -> Callable[..., Task]:
    """A training that a worker is at."""

    def make(place: Place | None = None) -> Task:
        pets = add_dataset("pets")
        with database.write() as session:
            task = create_task(session, settings, training_of(pets, name="Pets", place=place))
            job = session.scalars(select(Job)).one()
            claim_job(session, job.id, 1, worker="w", device="CPU")
            event = Progress(epoch=3, epochs=10, step=1, steps=1, fraction=0.3, loss=0.5, learning_rate=0.01, images_per_second=9)
            record_event(session, job.id, 1, event, sequence=1)
        return task

    return make


@pytest.fixture
def worker(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends the training while the terminal sleeps between two looks."""

    def finish(seconds: float) -> None:
        with database.write() as session:
            job = session.scalars(select(Job)).one()
            finish_job(session, job.id, 1, score=0.9, metrics={"accuracy": 0.9})
            complete_task(session, job.id, 1, NewModel("models/x", ["cat", "dog"]))

    monkeypatch.setattr(thread.time, "sleep", finish)


@pytest.mark.parametrize(
    "place",
    [None, Place("slack", "C1", "T1"), Place("terminal", "cli:grace", "elsewhere")],
    ids=["made by a script", "made in Slack", "somebody else's terminal"],
)
def test_a_training_started_elsewhere_is_followed_to_its_end(
    chat: Chat, running: Callable[..., Task], worker: None, monkeypatch: pytest.MonkeyPatch, database: Database, place: Place | None
) -> None:
    task = running(place)
    offered: list[Any] = []
    monkeypatch.setattr(counter, "ask_controls", lambda controls, *_: offered.append([button.label for button in controls]))
    chat.follow(task.id)
    assert "epoch 3 of 10" in shown(chat)
    assert "“Pets” is trained." in shown(chat) and "Accuracy 90.0 %" in shown(chat)
    assert offered and "Test an image" in offered[0]
    with database.read() as session:
        threads = session.execute(select(Delivery.face, Delivery.cursor, Delivery.done)).all()
    assert threads == ([(place.face, 0, False)] if place else []), "its own thread is told as before"
    assert not chat.notifier.tick(), "nothing is awaited here any more"


def test_leaving_ends_the_visit(chat: Chat, running: Callable[..., Task], monkeypatch: pytest.MonkeyPatch) -> None:
    task = running()

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(thread.time, "sleep", interrupt)
    monkeypatch.setattr(chat_module, "choose", lambda *_: "leave")
    chat.follow(task.id)
    assert "It goes on training." in shown(chat)
    assert not chat.notifier.tick()


def test_ctrl_c_after_the_end_offers_no_stop(
    chat: Chat, running: Callable[..., Task], worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = running()

    def press_ctrl_c(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(counter, "ask_controls", press_ctrl_c)
    monkeypatch.setattr(chat_module, "choose", lambda *_: pytest.fail("there is nothing to stop"))
    with pytest.raises(KeyboardInterrupt):  # the main menu comes
        chat.follow(task.id)
    assert "“Pets” is trained." in shown(chat)
