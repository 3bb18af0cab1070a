"""What has to be asked over the network is asked while nobody waits for the database."""

import sqlite3
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from serving import serving

from core.access import Actor, Place
from core.db.session import Database
from core.db.tables import Dataset
from core.settings import Settings
from core.storage import Storage
from core.wizard.conversation import Conversation, Press
from core.wizard.screens import Text
from core.zoo import weights


class Hub(ThreadingHTTPServer):
    """A hub without a single file. Whenever it is asked, it tries to write to the installation's database, as a worker would."""

    def __init__(self, database: Database) -> None:
        self.asked: list[str] = []
        self.locked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.asked.append(self.path)
                worker = sqlite3.connect(str(database.url.database), timeout=0.1, isolation_level=None)
                try:
                    worker.execute("BEGIN IMMEDIATE")
                    worker.execute("ROLLBACK")
                except sqlite3.OperationalError:
                    hub.locked.append(self.path)
                finally:
                    worker.close()
                self.send_response(200 if self.path == "/" else 404)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def hub(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    weights._probed.clear()
    server = Hub(database)
    with serving(server) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield server
    weights._probed.clear()


def test_the_hub_is_asked_while_others_can_write(
    hub: Hub,
    database: Database,
    storage: Storage,
    settings: Settings,
    ada: Actor,
    place: Place,
    add_dataset: Callable[..., Dataset],
) -> None:
    conversation = Conversation(database, storage, settings.model_copy(update={"offline": False}))
    screen = conversation.begin(ada, place)
    dataset = add_dataset("cats", "single-label")
    for action, value in (
        ("next", ""),
        ("choose:task-type", "single-label"),
        ("next", ""),
        ("choose:dataset", dataset.id),
        ("next", ""),
        ("choose:selection", "manual"),
        ("choose:family", "ResNet"),
        ("choose:network", "resnet18"),
        ("choose:pretraining", "imagenet-1k"),
    ):
        version = screen.version
        screen = conversation.handle(ada, Press(screen.draft_id, version, action, value))
        assert screen.version == version + 1, "a press taken up again after the question counts once"
    said = " ".join(block.body for block in screen.blocks if isinstance(block, Text))
    assert "resnet18.imagenet-1k are not at hand and cannot be downloaded here" in said
    assert "/" in hub.asked and any("resnet18" in path for path in hub.asked)
    assert not hub.locked, "the database was locked while the hub was asked"
    assert len(hub.asked) == len(set(hub.asked)), "no question twice"
