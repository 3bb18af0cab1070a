"""Fixtures of the whole suite: a home of its own for each test, with database, storage and a way to fill them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import worker  # noqa: F401  # says how torch's threads wait, before torch is loaded
from core.access import Actor, Place
from core.db.migrate import upgrade
from core.db.session import Database
from core.db.tables import AnnotationSet, Dataset
from core.settings import Settings
from core.storage import Storage


def _keep_to_own_cores() -> None:
    """Under pytest-xdist: this process and all it starts stay on its share of the cores, so that neighbours do not slow each other's torch down."""
    process, count = os.environ.get("PYTEST_XDIST_WORKER"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if process and hasattr(os, "sched_setaffinity"):
        cores, number = sorted(os.sched_getaffinity(0)), int(process.removeprefix("gw"))
        os.sched_setaffinity(0, cores[number::count] or cores)


_keep_to_own_cores()  # before torch is loaded and counts them


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the settings of the person who runs it."""
    for name in list(os.environ):
        if name.startswith("STATIONMASTER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STATIONMASTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STATIONMASTER_OFFLINE", "1")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", offline=True)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database.of(settings)
    upgrade(database)
    yield database
    database.engine.dispose()


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return Storage.of(settings)


@pytest.fixture
def ada() -> Actor:
    return Actor("default", "terminal:ada", "Ada")


@pytest.fixture
def grace() -> Actor:
    return Actor("default", "terminal:grace", "Grace")


@pytest.fixture
def place() -> Place:
    return Place("terminal", channel="terminal:ada", thread="t1")


AddDataset = Callable[..., Dataset]


@pytest.fixture
def add_dataset(database: Database) -> AddDataset:
    """Rows of a ready dataset without images: enough for everything that does not look at pixels."""

    def add(
        name: str,
        *kinds: str,
        workspace: str = "default",
        images: int = 100,
        classes: tuple[str, ...] = ("cat", "dog"),
        state: str = "ready",
    ) -> Dataset:
        share = images // len(classes)
        dataset = Dataset(
            workspace=workspace, name=name, state=state, image_count=images, median_width=320, median_height=240, created_by="terminal:ada"
        )
        dataset.annotation_sets = [
            AnnotationSet(
                position=position,
                name=f"{kind} {position}",
                kind=kind,
                classes=list(classes),
                class_counts=[share] * len(classes),
                image_count=images,
            )
            for position, kind in enumerate(kinds or ("single-label",))
        ]
        with database.write() as session:
            session.add(dataset)
        return dataset

    return add
