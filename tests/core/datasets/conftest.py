"""A fresh home for each test, and small real images to fill sources with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.access import Actor
from core.datasets.importing import import_dataset
from core.datasets.listing import find_dataset, findings_of
from core.datasets.records import Record, load_records
from core.db.session import Database
from core.db.tables import Base, Dataset, DatasetFinding
from core.settings import Settings
from core.storage import Storage


def make_picture(seed: int = 0, width: int = 32, height: int = 24, mode: str = "RGB", suffix: str = "PNG", **options: Any) -> bytes:
    """An image file of coloured noise, different for each seed."""
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).save(out, suffix, **options)
    return out.getvalue()


@dataclass
class Home:
    """One installation under a temporary folder."""

    path: Path
    settings: Settings
    database: Database
    storage: Storage
    actor: Actor

    def bring(self, source: Path | str, name: str = "set", **options: Any) -> Dataset:
        """Import a source."""
        return import_dataset(
            self.database,
            self.storage,
            self.settings,
            workspace="default",
            person=self.actor.person,
            name=name,
            source=str(source),
            **options,
        )

    def dataset(self, name: str = "set") -> Dataset:
        with self.database.read() as session:
            return find_dataset(session, "default", name)

    def records(self, dataset: Dataset, number: int = 0) -> list[Record]:
        with self.database.read() as session:
            return load_records(session, dataset.id, dataset.annotation_sets[number].id)

    def findings(self, dataset: Dataset) -> list[DatasetFinding]:
        with self.database.read() as session:
            return findings_of(session, dataset.id)

    def codes(self, dataset: Dataset) -> list[str]:
        return [finding.code for finding in self.findings(dataset)]

    def finding(self, dataset: Dataset, code: str) -> DatasetFinding:
        """The one finding of that code."""
        (found,) = [finding for finding in self.findings(dataset) if finding.code == code]
        return found

    def leftovers(self) -> list[str]:
        return self.storage.list("datasets")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    settings = Settings(home=tmp_path / "home", min_free_bytes=0, _env_file=None)
    database = Database.of(settings)
    Base.metadata.create_all(database.engine)
    yield Home(tmp_path, settings, database, Storage.of(settings), Actor("default", "cli:test", "test", admin=True))
    database.engine.dispose()


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """Makes image files: `picture(seed, width, height, mode, suffix)`."""
    return make_picture


@pytest.fixture
def folders(tmp_path: Path) -> Callable[..., Path]:
    """Writes class folders: `folders(cat=4, dog=3)`."""

    def write(root: str = "source", **classes: int) -> Path:
        seed = 0
        for name, count in classes.items():
            folder = tmp_path / root / name
            folder.mkdir(parents=True)
            for number in range(count):
                seed += 1
                (folder / f"{number}.png").write_bytes(make_picture(seed))
        return tmp_path / root

    return write
