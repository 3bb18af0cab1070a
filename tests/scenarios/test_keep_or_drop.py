"""An import from a chat that leaves something out: told in its thread, and kept or dropped by who asked for it, whatever restarts meanwhile."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from bot.desk.desk import Desk
from bot.desk.reply import Upload
from bot.notifier import Notifier
from core.access import Actor, Place
from core.datasets.listing import find_dataset
from core.db.session import Database
from core.db.tables import LightJob
from core.errors import ConflictError, NotAllowedError, NotFoundError
from core.settings import Settings
from core.storage import Storage
from core.wizard.screens import Facts, Message
from worker.light import run_light


class Channel:
    """A chat that keeps what is posted."""

    face = "terminal"
    edits_per_minute = 0

    def __init__(self) -> None:
        self.posts: list[Message] = []

    def wants(self, place: Place) -> bool:
        return True

    def find(self, place: Place, key: str) -> str:
        return next((post.key for post in self.posts if post.key == key), "")

    def post(self, place: Place, message: Message) -> str:
        self.posts.append(message)
        return message.key

    def edit(self, place: Place, message_id: str, message: Message) -> str:
        raise AssertionError("nothing to edit")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Five pictures of two classes, one of them damaged."""
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for number in range(5):
            out = io.BytesIO()
            Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(out, "PNG")
            packed.writestr(f"{'cat' if number % 2 else 'dog'}/{number}.png", out.getvalue() if number else b"no image")
    return path


@pytest.fixture
def bring(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, database: Database, storage: Storage, ada: Actor, place: Place, archive: Path
) -> Any:
    """Uploads the archive, lets a light worker import it, and has the thread told; the message and the dataset's id."""
    monkeypatch.setenv("STATIONMASTER_HOME", str(settings.home))

    def run(channel: Channel) -> tuple[Message, str]:
        Desk(database, storage, settings).press(
            ada, place, "dataset:import", values={"name": "pets"}, uploads=(Upload("pets.zip", archive),)
        )
        with database.read() as session:
            job = session.scalars(select(LightJob).where(LightJob.state == "waiting")).one()
        run_light(job.id, 1)
        Notifier(database, storage, (channel,), lambda: None).tick()
        with database.read() as session:
            return channel.posts[-1], session.get_one(LightJob, job.id).result["dataset_id"]

    return run


def test_the_good_part_is_kept(
    bring: Any, database: Database, storage: Storage, settings: Settings, ada: Actor, grace: Actor, place: Place
) -> None:
    channel = Channel()
    message, dataset_id = bring(channel)
    assert [button.label for button in message.buttons] == ["Keep the good part", "Drop all", "List as a file"]
    facts = next(block for block in message.blocks if isinstance(block, Facts))
    assert "1 left out (1 damaged-image)" in facts.title and facts.rows[0][0] == "dog/0.png"
    # Nobody sees it before somebody has chosen; another bot than the one that told of it takes the press.
    desk = Desk(database, storage, settings)
    with database.read() as session, pytest.raises(NotFoundError):
        find_dataset(session, "default", "pets")
    listed = desk.press(grace, place, "dataset:findings", dataset_id).files[0].data.decode()
    assert "damaged-image" in listed and "dog/0.png" in listed
    with pytest.raises(NotAllowedError):
        desk.press(grace, place, "dataset:keep", dataset_id)
    kept = desk.press(ada, place, "dataset:keep", dataset_id)
    assert next(control.action for control in kept.controls) == "train:begin"
    with database.read() as session:
        assert find_dataset(session, "default", "pets").image_count == 4
    with pytest.raises(ConflictError, match="kept already"):
        desk.press(ada, place, "dataset:drop", dataset_id)
    assert storage.list("uploads") == []


def test_all_is_dropped_and_may_be_brought_again(
    bring: Any, database: Database, storage: Storage, settings: Settings, ada: Actor, place: Place
) -> None:
    channel = Channel()
    _, dataset_id = bring(channel)
    desk = Desk(database, storage, settings)
    assert "nothing of it is left" in str(desk.press(ada, place, "dataset:drop", dataset_id).blocks[0])
    assert storage.list("datasets") == []
    for action in ("dataset:drop", "dataset:keep", "dataset:findings"):
        with pytest.raises(NotFoundError):
            desk.press(ada, place, action, dataset_id)
    message, _ = bring(channel)
    assert message.buttons[0].action == "dataset:keep"
