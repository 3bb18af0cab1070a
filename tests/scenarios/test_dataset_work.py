"""Statistics and combinations asked for in a chat: done by a light worker, told where they were asked for."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from bot.desk.desk import Desk
from bot.light_messages import end_message
from core.access import Actor, Place
from core.datasets.importing import import_dataset
from core.datasets.listing import find_dataset
from core.db.session import Database
from core.db.tables import Dataset, LightJob
from core.errors import ConflictError, InvalidInputError, NotFoundError
from core.settings import Settings
from core.storage import Storage
from core.wizard.screens import Facts, Picture, Text
from worker.light import run_light


@pytest.fixture
def bring(database: Database, storage: Storage, settings: Settings, ada: Actor, tmp_path: Path) -> Callable[..., Dataset]:
    """Imports class folders: `bring("pets", cat=6, dog=1)`."""

    def run(name: str, **classes: int) -> Dataset:
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as packed:
            for label, count in classes.items():
                for number in range(count):
                    pixels = np.random.default_rng([len(label), number, *name.encode()]).integers(0, 256, (20, 20, 3), dtype=np.uint8)
                    out = io.BytesIO()
                    Image.fromarray(pixels).save(out, "PNG")
                    packed.writestr(f"{label}/{number}.png", out.getvalue())
        return import_dataset(
            database, storage, settings, workspace=ada.workspace, person=ada.person, name=name, source=str(tmp_path / f"{name}.zip")
        )

    return run


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, database: Database, storage: Storage, settings: Settings) -> Desk:
    """A desk whose light worker takes jobs at once."""
    monkeypatch.setenv("STATIONMASTER_HOME", str(settings.home))

    def work() -> None:
        with database.read() as session:
            waiting = session.scalars(select(LightJob.id).where(LightJob.state == "waiting")).all()
        for job_id in waiting:
            run_light(job_id, 1)

    return Desk(database, storage, settings, on_start=work)


def test_statistics_as_picture_and_json(desk: Desk, ada: Actor, place: Place, bring: Any, storage: Storage) -> None:
    pets = bring("pets", cat=12, dog=9, fox=1)
    shown = desk.press(ada, place, "dataset:show", pets.id)
    button = next(control for control in shown.controls if control.action == "dataset:statistics")
    reply = desk.press(ada, place, button.action, button.value)
    texts = " ".join(block.body for block in reply.blocks if isinstance(block, Text))
    assert "2 classes well, 0 mildly and 1 seriously under-represented" in texts
    assert [row[0] for block in reply.blocks if isinstance(block, Facts) for row in block.rows] == ["fox"]
    picture = next(block for block in reply.blocks if isinstance(block, Picture))
    assert Image.open(io.BytesIO(storage.read(picture.key))).width > 600
    numbers = json.loads(storage.read(reply.files[0].key))
    assert {label["class"]: label["images"] for label in numbers["labels"]} == {"cat": 12, "dog": 9, "fox": 1}


def test_datasets_are_combined_with_a_choice_and_renaming_of_labels(
    desk: Desk, ada: Actor, place: Place, bring: Any, database: Database
) -> None:
    pets, zoo = bring("pets", cat=4, dog=4), bring("zoo", kitty=5, lion=3)
    form = desk.press(ada, place, "dataset:combine", pets.id).form
    assert form is not None and [field.name for field in form.fields] == ["name", "others", "only", "rename"]
    said = {"name": "cats", "others": "zoo\n", "only": "cat\nkitty\n", "rename": "kitty=cat\n"}
    reply = desk.press(ada, place, form.action, values=said)
    assert "“cats” is being made of 2 datasets" in str(reply.blocks[0])
    with database.read() as session:
        made = find_dataset(session, "default", "cats")
        job = session.scalars(select(LightJob).where(LightJob.kind == "combine")).one()
    assert (made.annotation_sets[0].classes, made.annotation_sets[0].class_counts) == (["cat"], [9])
    assert "“cats” is ready: 9 images" in str(end_message(job, made, [], {}).blocks[0])
    assert {pets.image_count, zoo.image_count} == {8}


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        ({"others": "nothing"}, NotFoundError),
        ({"others": "pets"}, InvalidInputError),
        ({"only": "unicorn"}, InvalidInputError),
        ({"rename": "cat"}, InvalidInputError),
        ({"rename": "cat="}, InvalidInputError),
        ({"name": "zoo"}, ConflictError),
    ],
)
def test_what_cannot_be_combined_is_said_in_the_dialog(
    desk: Desk, ada: Actor, place: Place, bring: Any, database: Database, typed: dict[str, str], error: type[Exception]
) -> None:
    pets, _ = bring("pets", cat=3), bring("zoo", lion=3)
    with pytest.raises(error):
        desk.press(ada, place, "dataset:combine", pets.id, {"name": "new", "others": "zoo"} | typed)
    with database.read() as session:
        assert session.scalars(select(LightJob)).all() == []
