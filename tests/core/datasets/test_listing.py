"""Lists, names and deletion; previews and statistics of every kind."""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.access import Actor
from core.clock import now
from core.datasets.holding import drop_dataset, keep_dataset
from core.datasets.importing import import_dataset
from core.datasets.legend import colour_of
from core.datasets.listing import (
    annotation_sets_for,
    delete_dataset,
    find_dataset,
    list_datasets,
    nothing_to_learn,
    rename_dataset,
    task_types,
)
from core.datasets.previews import preview_page
from core.datasets.representation import MILDLY, SERIOUSLY, WELL, representation
from core.datasets.statistics import dataset_statistics
from core.datasets.sweeping import sweep
from core.db.tables import Dataset, Task
from core.errors import ConflictError, InvalidInputError, NotAllowedError, NotFoundError
from core.tasks.light import submit_light_job
from core.vocabulary import TaskType

Picture = Callable[..., bytes]


def use(home: Any, dataset: Any, name: str) -> None:
    """A task that uses the dataset."""
    with home.database.write() as session:
        session.add(
            Task(
                workspace="default",
                name=name,
                model_name=name,
                flow="general",
                dataset_id=dataset.id,
                annotation_set_id=dataset.annotation_sets[0].id,
                task_type="single-label",
                network="n",
                pretraining="none",
                tuning="auto",
                settings={},
                seed=0,
                place={},
                created_by="cli:test",
            )
        )


IMAGES = [{"id": number, "file_name": f"{name}.png", "width": 32, "height": 24} for number, name in enumerate("ab")]
ONE_BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}


def mask_of(value: int) -> bytes:
    out = BytesIO()
    Image.new("L", (32, 24), value).save(out, "PNG")
    return out.getvalue()


def test_pages_search_and_task_types(home: Any, folders: Any, picture: Picture, tmp_path: Path) -> None:
    source = folders(cat=3)
    for name in ("zebras", "Apples", "apple_trees", "100%"):
        home.bring(source, name)
    boxed = tmp_path / "boxed"
    boxed.mkdir()
    (boxed / "a.png").write_bytes(picture(1))
    (boxed / "label.csv").write_text("a.png,cat,1,1,5,5\n")
    home.bring(boxed, "boxed")
    with home.database.read() as session:
        names = lambda **options: [one.name for one in list_datasets(session, "default", **options)[0]]  # noqa: E731
        assert sorted(names()) == sorted(["zebras", "Apples", "apple_trees", "100%", "boxed"])
        assert list_datasets(session, "default", offset=1, limit=2)[1] == 5
        assert len(names(offset=1, limit=2)) == 2
        assert sorted(names(search="APPLE")) == ["Apples", "apple_trees"]
        assert names(search="e_t") == ["apple_trees"]
        assert names(search="%") == ["100%"]
        assert names(task_type=TaskType.OBJECT_DETECTION) == ["boxed"]
        assert names(task_type=TaskType.MULTI_LABEL) == ["boxed"]
        assert list_datasets(session, "elsewhere") == ([], 0)
        (derived,) = annotation_sets_for(find_dataset(session, "default", "boxed"), TaskType.MULTI_LABEL)
        assert derived.derived_from
        with pytest.raises(NotFoundError) as caught:
            find_dataset(session, "default", "zebra")
        assert "zebras" in caught.value.remedy


EMPTY = {
    "coco": {"all.json": json.dumps({"images": IMAGES, "annotations": [], "categories": [{"id": 1, "name": "cat"}]})},
    "masks": {"classes.txt": b"1 cat\n2 dog\n", "masks/a.png": mask_of(0), "masks/b.png": mask_of(0)},
}
WITH_ONE = {
    "coco": {"all.json": json.dumps({"images": IMAGES, "annotations": [ONE_BOX], "categories": [{"id": 1, "name": "cat"}]})},
    "masks": EMPTY["masks"] | {"masks/b.png": mask_of(1)},
}


@pytest.mark.parametrize("form", EMPTY)
def test_nothing_can_be_learnt_where_no_image_shows_anything(home: Any, picture: Picture, tmp_path: Path, form: str) -> None:
    """Images without objects are welcome beside others."""
    for name, files in (("empty", EMPTY[form]), ("beside", WITH_ONE[form])):
        for path, data in {"images/a.png": picture(1), "images/b.png": picture(2), **files}.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_bytes(data if isinstance(data, bytes) else data.encode())
        home.bring(tmp_path / name, name)
    empty, beside = home.dataset("empty"), home.dataset("beside")
    assert (task_types(empty), empty.image_count, beside.image_count) == ([], 2, 2)
    assert task_types(beside)
    with home.database.read() as session:
        for task_type in TaskType:
            fitting = [beside.name] if task_type in task_types(beside) else []
            assert [one.name for one in list_datasets(session, "default", task_type=task_type)[0]] == fitting
            assert bool(nothing_to_learn(beside, task_type)) == (not fitting)
            assert nothing_to_learn(empty, task_type).startswith(
                "No image of “empty” shows any of its classes"
                if annotation_sets_for(empty, task_type)
                else "“empty” has no annotations for"
            )


def test_a_dataset_in_use_cannot_change(home: Any, folders: Any) -> None:
    dataset = home.bring(folders(cat=3))
    use(home, dataset, "first try")
    for act in (
        lambda: rename_dataset(home.database, home.actor, "set", "new"),
        lambda: delete_dataset(home.database, home.storage, home.actor, "set"),
    ):
        with pytest.raises(ConflictError, match="first try"):
            act()
    assert home.dataset().image_count == 3


def test_only_owner_and_admins_delete(home: Any, folders: Any) -> None:
    home.bring(folders(cat=3))
    stranger = Actor("default", "slack:U1", "eve")
    with pytest.raises(NotAllowedError):
        delete_dataset(home.database, home.storage, stranger, "set")
    delete_dataset(home.database, home.storage, home.actor, "set")
    assert home.leftovers() == []


def test_keep_or_drop(home: Any, folders: Any) -> None:
    source = folders(cat=4)
    (source / "cat/0.png").write_bytes(b"no image")
    options = {"workspace": "default", "person": "slack:U1", "source": str(source), "hold": True}
    owner, stranger = Actor("default", "slack:U1", "ada"), Actor("default", "slack:U2", "eve")
    held = import_dataset(home.database, home.storage, home.settings, name="a", **options)
    assert held.state == "held"
    with home.database.read() as session:
        assert list_datasets(session, "default")[1] == 0
    with pytest.raises(ConflictError, match="waits for somebody"):
        home.bring(source, "a")
    with pytest.raises(NotAllowedError):
        keep_dataset(home.database, stranger, held.id)
    assert keep_dataset(home.database, owner, held.id).state == "ready"
    assert keep_dataset(home.database, stranger, held.id).state == "ready"  # kept already: pressed twice
    with pytest.raises(ConflictError, match="kept already"):
        drop_dataset(home.database, home.storage, owner, held.id)
    assert home.dataset("a").image_count == 3
    other = import_dataset(home.database, home.storage, home.settings, name="b", **options)
    assert drop_dataset(home.database, home.storage, owner, other.id) == "b"
    with pytest.raises(NotFoundError):
        keep_dataset(home.database, owner, other.id)
    assert {key.split("/")[1] for key in home.leftovers()} == {held.id}


def test_what_nobody_decides_on_is_dropped_in_the_end(home: Any, folders: Any) -> None:
    source = folders(cat=4)
    (source / "cat/0.png").write_bytes(b"no image")
    held = home.bring(source, hold=True)
    assert sweep(home.database, home.storage, home.settings) == 0
    with home.database.write() as session:
        session.get_one(Dataset, held.id).created_at = now() - timedelta(days=home.settings.draft_days + 1)
    assert sweep(home.database, home.storage, home.settings) == 1
    assert home.leftovers() == []


def test_uploads_that_no_job_waits_for_are_swept(home: Any) -> None:
    for name in ("waited for", "forgotten", "just coming"):
        home.storage.write(f"uploads/{name}/archive.zip", b"PK")
        if name != "just coming":
            os.utime(home.storage.local_path(f"uploads/{name}/archive.zip"), (0, 0))
    with home.database.write() as session:
        payload = {"upload_key": "uploads/waited for/archive.zip"}
        submit_light_job(session, workspace="default", person="p", kind="import", payload=payload)
    assert sweep(home.database, home.storage, home.settings) == 1
    assert home.storage.list("uploads") == ["uploads/just coming/archive.zip", "uploads/waited for/archive.zip"]


def test_a_job_that_is_done_again_finds_the_dataset_that_it_has_made(home: Any, folders: Any) -> None:
    source = folders(cat=3)
    made = home.bring(source, origin="job 1")
    again = home.bring(source, origin="job 1")
    assert again.id == made.id and again.annotation_sets[0].classes == ["cat"]
    with pytest.raises(ConflictError):
        home.bring(source, origin="job 2")


def test_names_are_found_in_any_case_and_script(home: Any, folders: Any) -> None:
    source = folders(cat=3)
    for name in ("Äpfel und Öl", "ÉTÉ à la mer", "ЛЕС", "STRASSE", "100% cats_x"):
        home.bring(source, name)

    def found(search: str) -> list[str]:
        with home.database.read() as session:
            return [one.name for one in list_datasets(session, "default", search=search)[0]]

    assert found("äPFEL") == ["Äpfel und Öl"]
    assert found("e\u0301te\u0301") == ["ÉTÉ à la mer"]  # composed or not
    assert found("лес") == ["ЛЕС"] and found("straße") == ["STRASSE"]
    assert found("0% C") == ["100% cats_x"] and found("s_x") == ["100% cats_x"] and found("%") == ["100% cats_x"]
    rename_dataset(home.database, home.actor, "ЛЕС", "Ödland")
    assert found("лес") == [] and found("ödl") == ["Ödland"]


@pytest.fixture
def boxed(home: Any, tmp_path: Path) -> Any:
    """Sixty black images with one box each, of two classes in turn."""
    source = tmp_path / "boxed"
    source.mkdir()
    for number in range(60):
        Image.fromarray(np.full((100, 200), number % 40, np.uint8)).save(source / f"{number}.png")
    (source / "label.csv").write_text("".join(f"{number}.png,{'ab'[number % 2]},50,20,100,40\n" for number in range(60)))
    return home.bring(source, "boxed")


def test_previews_come_in_pages_and_are_kept(home: Any, boxed: Any) -> None:
    pages = [preview_page(home.database, home.storage, home.settings, boxed.id, boxed.annotation_sets[0].id, number) for number in (1, 2)]
    assert [(page.first, page.last, page.total) for page in pages] == [(1, 50, 60), (51, 60, 60)]
    drawn = home.storage.read(pages[0].png_key)
    assert preview_page(home.database, home.storage, home.settings, boxed.id, boxed.annotation_sets[0].id, 1) == pages[0]
    shown = np.asarray(Image.open(BytesIO(drawn)).convert("RGB")).reshape(-1, 3)
    for number in range(2):  # legend and twenty-five boxes of each class
        assert (shown == colour_of(number)).all(1).sum() > 25 * 2 * (70 + 28) * 2 * 0.9
    for number in (0, 3, -1):
        with pytest.raises(InvalidInputError):
            preview_page(home.database, home.storage, home.settings, boxed.id, boxed.annotation_sets[0].id, number)
    with pytest.raises(NotFoundError):
        preview_page(home.database, home.storage, home.settings, boxed.id, "nothing", 1)


def test_statistics_of_boxes(home: Any, boxed: Any) -> None:
    found, keys = dataset_statistics(home.database, home.storage, boxed.id, boxed.annotation_sets[0].id)
    assert [(label["class"], label["count"], label["representation"]) for label in found["labels"]] == [("a", 30, WELL), ("b", 30, WELL)]
    assert found["box_area"]["median"] == pytest.approx(0.2)
    assert found["box_aspect_ratio"]["mean"] == pytest.approx(2.5)
    assert found["boxes_per_image"]["histogram"] == {"1": 60}
    assert Image.open(BytesIO(home.storage.read(keys.png_key))).width > 1000
    assert dataset_statistics(home.database, home.storage, boxed.id, boxed.annotation_sets[0].id)[0] == found


def test_representation_against_a_cut_off() -> None:
    assert representation([100, 50, 20, 10]) == [WELL, WELL, MILDLY, SERIOUSLY]
    assert representation([100, 50, 20, 10], cut_off=1) == [WELL, WELL, SERIOUSLY, SERIOUSLY]
    assert representation([0, 0]) == [SERIOUSLY, SERIOUSLY]


def test_images_without_labels_can_be_looked_at(home: Any, picture: Picture, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    for number in range(53):
        (tmp_path / "bare" / f"{number}.png").write_bytes(picture(number))
    dataset = home.bring(tmp_path / "bare")
    assert [key for key in home.leftovers() if "/previews/" in key]  # drawn by the import
    page = preview_page(home.database, home.storage, home.settings, dataset.id, "", 2)
    assert (page.first, page.last, page.total) == (51, 53, 53)
    assert home.storage.read(page.png_key).startswith(b"\x89PNG")
