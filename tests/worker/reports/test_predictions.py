"""Trying a model on images as people have them: DICOM as an import shows it, and folders of anything."""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import dicom, without_mark
from PIL import Image
from sqlalchemy import select

from bot.desk.desk import Desk
from bot.desk.reply import Upload
from bot.terminal.commands.model_predict import images_in
from core.access import Actor, Place
from core.db.tables import DatasetImage, Model
from core.wizard.screens import Facts, Text
from worker.reports.inference import predict, predict_all
from worker.reports.model_files import write_model

SCAN = np.tile(np.arange(32, dtype=np.uint16) * 100, (32, 1))
WINDOW = {"RescaleSlope": 1, "RescaleIntercept": -1000, "WindowCenter": 500, "WindowWidth": 1000}


@pytest.fixture
def striped(bench: Any) -> Any:
    """The bench with a classifier of stripes as models/m1."""
    job = bench.job(bench.stripes(per_class=12), epochs=2)
    write_model(job, bench.train(job)[0], "models/m1", database=bench.database, storage=bench.storage, settings=bench.settings)
    return bench


def test_a_dicom_file_is_seen_as_its_import_stores_it(striped: Any, tmp_path: Path) -> None:
    scan = dicom(SCAN, StudyInstanceUID="1.2.3", PhotometricInterpretation="MONOCHROME1", **WINDOW)
    before_its_mark = without_mark(scan)
    (tmp_path / "scans" / "one").mkdir(parents=True)
    (tmp_path / "scans" / "one" / "IM000001").write_bytes(scan)
    imported = striped.import_folder(tmp_path / "scans", "scans")
    with striped.database.read() as session:
        stored = striped.storage.read(session.scalars(select(DatasetImage.key).where(DatasetImage.dataset_id == imported.id)).one())
    shown = np.asarray(Image.open(io.BytesIO(stored)))[0]
    assert (shown[0], shown[-1]) == (255, 0), "the window shows 0 … 1000, and MONOCHROME1 is white at its least"

    arguments = {"storage": striped.storage, "settings": striped.settings}
    wanted = predict("models/m1", stored, **arguments)["labels"]
    assert predict("models/m1", scan, **arguments)["labels"] == wanted
    assert predict("models/m1", before_its_mark, name="scan.DCM", **arguments)["labels"] == wanted
    plain = io.BytesIO()
    Image.fromarray(SCAN).save(plain, "PNG")
    assert predict("models/m1", plain.getvalue(), **arguments)["labels"] != wanted, "how it is shown makes a difference"
    files = {"one/IM000001": scan, "old.dcm": before_its_mark}
    for number, data in enumerate(files.values()):
        striped.storage.write(f"inference/x/{number}", data)
    for answer in predict_all("models/m1", {name: f"inference/x/{number}" for number, name in enumerate(files)}, **arguments):
        assert answer["labels"][0]["label"] == wanted[0]["label"]
        assert answer["labels"][0]["confidence"] == pytest.approx(wanted[0]["confidence"], abs=1e-5)


def test_a_folder_s_dicom_files_are_found_whatever_they_are_called(tmp_path: Path) -> None:
    scan = dicom(SCAN)
    for name, data in {
        "IM000001": scan,
        "PA0/1.2.840.113": scan,
        "a.dcm": scan,
        "b.JPG": b"",
        "notes": b"words" * 100,
        "notes.txt": scan,
        "DICOMDIR": scan,
        "__MACOSX/._b.JPG": b"",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    found = [path.relative_to(tmp_path).as_posix() for path in images_in(tmp_path)]
    assert found == ["IM000001", "PA0/1.2.840.113", "a.dcm", "b.JPG"]


def test_a_chat_tries_a_model_on_a_scan(striped: Any, tmp_path: Path) -> None:
    model = Model(
        id="m" * 12,
        workspace="default",
        task_id=None,
        name="Stripes",
        task_type="single-label",
        network="test_resnet",
        pretraining="none",
        classes=["direction 0", "direction 1"],
        metrics={},
        key="models/m1",
        created_by="cli:test",
    )
    with striped.database.write() as session:
        session.add(model)
    (tmp_path / "upload").write_bytes(without_mark(dicom(np.stack([SCAN, SCAN.T]))))
    worker = threading.Thread(target=striped.serve_a_light_job)
    worker.start()
    desk = Desk(striped.database, striped.storage, striped.settings)
    actor, place = Actor("default", "slack:U1", "Ada"), Place("slack", "T1", "C1")
    reply = desk.press(actor, place, "model:test", model.id, uploads=(Upload("scan.dcm", tmp_path / "upload"),))
    worker.join()
    (facts,) = (block for block in reply.blocks if isinstance(block, Facts))
    assert {label for label, _ in facts.rows} == {"direction 0", "direction 1"}
    assert any("2 pictures" in block.body for block in reply.blocks if isinstance(block, Text))
