"""Trying a model on images as people have them: DICOM as an import shows it, and folders of anything."""

import csv
import io
import json
import threading
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from dicom_files import dicom, without_mark
from finished_models import stripes_model
from PIL import Image
from small_networks import BOXES, INSTANCES, REGIONS
from sqlalchemy import select

from bot.desk.desk import Desk
from bot.desk.reply import Upload
from bot.terminal.commands.model_predict import images_in, table_of
from bot.terminal.commands.prediction_files import OutputNames, clear_folder, copy_out, named_files, prepare_folder, write_answers
from core.access import Actor, Place
from core.datasets import images as core_images
from core.datasets import masks
from core.db.tables import DatasetImage
from core.errors import InvalidInputError
from core.wizard.screens import Facts, Text
from worker.reports import inference
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


@pytest.mark.parametrize("kind", ["single", "several", "boxes", "regions", "instances"])
def test_a_folder_s_pictures_and_masks(bench: Any, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = {"single": bench.stripes, "several": bench.several_labels}.get(kind, bench.squares)()
    if kind in ("single", "several"):
        job = bench.job(dataset, epochs=1)
    else:
        spec = {"boxes": BOXES, "regions": REGIONS, "instances": INSTANCES}[kind]
        plan = {"batch_size": 4, "epochs": 8 if kind == "regions" else 2, "image_size": 64, "learning_rate": 2e-3, "gradient_clip": 5.0}
        job = bench.job(dataset, kind="boxes" if kind == "boxes" else "instances", spec=spec, **plan)
    write_model(job, bench.train(job)[0], "models/m1", database=bench.database, storage=bench.storage, settings=bench.settings)
    arguments = {"storage": bench.storage, "settings": bench.settings}
    if kind in ("boxes", "instances"):
        arguments["threshold"] = 0.05  # two epochs make nobody sure
    paths = sorted(bench.folder.rglob("*.png"))[:19]  # more than a batch
    names = [f"{'ab'[number % 2]}/{number // 2}.png" for number in range(len(paths))]
    images = {name: f"inference/x/{number}" for number, name in enumerate(names)} | {"bad.png": "inference/x/bad", "two": "inference/x/two"}
    for name, path in zip(names, paths, strict=True):
        bench.storage.write(images[name], path.read_bytes())
    bench.storage.write("inference/x/bad", b"no image")
    bench.storage.write("inference/x/two", dicom(np.stack([SCAN, SCAN.T])))
    answers = predict_all("models/m1", images, draw=True, **arguments)
    assert [(answer["file"], answer.get("frame")) for answer in answers] == [
        *((name, None) for name in names),
        *(("bad.png", None), ("two", 1), ("two", 2)),
    ]
    # As each alone, which has a picture of its own.
    for answer, path in zip(answers[:3], paths, strict=False):
        alone = predict("models/m1", path.read_bytes(), **arguments)
        assert [item["label"] for item in answer["labels"]] == [item["label"] for item in alone["labels"]]
        assert [item["confidence"] for item in answer["labels"]] == pytest.approx(
            [item["confidence"] for item in alone["labels"]], abs=1e-4
        )
        assert ("picture_key" in answer) == ("picture_key" in alone)

    out = tmp_path / "out"
    told, kept = named_files(answers)
    write_answers({"classes": dataset.annotation_sets[0].classes, "images": told}, out)
    for name, key in kept.items():
        copy_out(bench.storage, key, out / name)
    assert json.loads((out / "predictions.json").read_text())["images"] == told
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["label"]) for row in rows) == sum(len(answer.get("labels", [])) for answer in told)
    assert [row["file"] for row in rows if row["error"]] == ["bad.png"]
    for answer in told:
        if "error" in answer:
            continue
        with Image.open(out / answer["picture"]) as picture:
            assert picture.format == "PNG" and max(picture.size) >= 512
        assert ("mask_file" in answer) == (kind in ("regions", "instances"))
        if "mask_file" in answer:
            with Image.open(out / answer["mask_file"]) as opened:
                assert opened.size == (answer["width"], answer["height"])
                numbers = np.asarray(opened)
            wanted = np.zeros_like(numbers)
            layers = list(enumerate(answer["labels"], 1))
            for number, label in layers[::-1] if kind == "instances" else layers:
                place = number if kind == "instances" else job.classes.index(label["label"]) + 1
                wanted[masks.decode(label["mask"]["counts"], answer["width"], answer["height"]) > 0] = place
            assert np.array_equal(numbers, wanted)
    if kind in ("boxes", "regions"):
        # Of a file so large that its picture is scaled down to be looked at, places are told in the file's own pixels.
        monkeypatch.setattr(core_images, "LARGEST_SIDE", 24)
        (large,) = predict_all("models/m1", {"l.png": images[names[0]]}, draw=True, **arguments)
        assert (large["width"], large["height"]) == (answers[0]["width"], answers[0]["height"]) and large["width"] > 24
        if kind == "regions":
            with Image.open(io.BytesIO(bench.storage.read(large["mask_key"]))) as opened:
                assert opened.size == (large["width"], large["height"])
        else:
            assert max(box[0] + box[2] for label in large["labels"] if (box := label["box"])) > 24
    if kind != "several":
        assert any(answer.get("labels") for answer in told)
    assert told[0]["picture"] == "a/0.png" and told[-1]["picture"] == "two-frame-0002.png"


def test_a_threshold_says_what_counts(bench: Any) -> None:
    job = bench.job(bench.squares(), kind="boxes", spec=BOXES, epochs=1, batch_size=4, image_size=64)
    write_model(job, bench.train(job)[0], "models/m1", database=bench.database, storage=bench.storage, settings=bench.settings)
    image = next(bench.folder.rglob("*.png")).read_bytes()

    def found(threshold: float | None) -> list[float]:
        answer = predict("models/m1", image, threshold=threshold, storage=bench.storage, settings=bench.settings)
        return [label["confidence"] for label in answer["labels"]]

    everything = found(0)
    middle = everything[len(everything) // 2]
    assert found(middle) == [confidence for confidence in everything if confidence >= middle]
    assert found(1) == []
    own = json.loads(bench.storage.read("models/m1/model_card.json"))["thresholds"]
    assert all(confidence >= min(own) for confidence in found(None))


def test_of_several_labels_the_table_says_which_count(bench: Any) -> None:
    job = bench.job(bench.several_labels(), epochs=1)
    write_model(job, bench.train(job)[0], "models/m1", database=bench.database, storage=bench.storage, settings=bench.settings)
    image = next(bench.folder.rglob("*.png")).read_bytes()
    for threshold, counts in ((0, "yes"), (1, "no")):
        labels = predict("models/m1", image, threshold=threshold, storage=bench.storage, settings=bench.settings)["labels"]
        columns, rows = table_of(labels)
        assert columns[-1] == "Counts" and [row[-1] for row in rows] == [counts] * len(job.classes)


def test_the_likeliest_class_needs_no_threshold(striped: Any) -> None:
    image = next(striped.folder.rglob("*.png")).read_bytes()
    with pytest.raises(InvalidInputError, match="no threshold"):
        predict("models/m1", image, threshold=0.5, storage=striped.storage, settings=striped.settings)


def test_output_names_never_meet() -> None:
    files = ["a.jpg", "a.png", "A.tif", "sub/a.jpg", "a.mask.jpg", "sub.png", "a.png/b.jpg", "x:y?.png", "x_y_.png", "predictions"]
    names = OutputNames(files)
    written = [f"{names.give(file, 0, ('.png', '.mask.png'))}{suffix}" for file in files for suffix in (".png",)]
    assert len({name.casefold() for name in written}) == len(files)
    folders = {str(parent) for name in written for parent in PurePosixPath(name).parents}
    assert not folders & set(written), "no file where a folder must be"
    assert written[0] == "a-2.png" and written[3] == "sub/a.png" and written[7] == "x_y_.png"


def test_images_are_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"mine")
    with pytest.raises(InvalidInputError, match="other files"):
        prepare_folder(tmp_path)
    prepare_folder(tmp_path / "new" / "one")
    assert images_in(tmp_path, without=tmp_path / "new" / "one") == [tmp_path / "a.png"]


def test_an_earlier_answer_is_replaced_as_a_whole_and_nothing_else_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_folder(out)
    for name in ("a.png", "a.mask.png", "sub/b.png"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"an answer")
    for name in ("mine.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"mine")
    images = [
        {"file": "a.jpg", "picture": "a.png", "mask_file": "a.mask.png"},
        {"file": "sub/b.jpg", "picture": "sub/b.png"},
        {"file": "c.jpg", "picture": "../mine.png", "mask_file": str(tmp_path / "notes.txt")},
        {"file": "d.jpg", "error": "damaged"},
    ]
    about = {"model_id": "m", "model": "Pets", "classes": ["cat"]}
    write_answers({**about, "images": images}, out)
    (out / ".DS_Store").write_bytes(b"x")
    prepare_folder(out)
    assert (out / "a.png").exists(), "until there is a new answer"
    clear_folder(out)
    assert [path.name for path in out.iterdir()] == [".DS_Store"]
    assert (tmp_path / "mine.png").exists() and (tmp_path / "notes.txt").exists()

    (out / "predictions.json.part").write_text('{"model_id"')
    prepare_folder(out)  # also where the answer was never finished
    write_answers({**about, "images": images[:1]}, out)
    assert not (out / "predictions.json.part").exists()
    prepare_folder(out)  # also where the files that it names were never brought
    (out / "holiday.png").write_bytes(b"mine")
    with pytest.raises(InvalidInputError, match=r"other files, such as holiday\.png"):
        prepare_folder(out)
    (out / "predictions.json").write_text("{")
    (out / "holiday.png").unlink()
    with pytest.raises(InvalidInputError, match="other files"):  # nobody knows which are an answer's
        prepare_folder(out)
    for strange in ({"images": []}, [1], {**about, "images": [{"picture": "\0.png"}]}):
        (out / "predictions.json").write_text(json.dumps(strange))
        with pytest.raises(InvalidInputError, match="other files"):  # somebody else's file of that name
            prepare_folder(out)


def test_a_batch_that_is_too_large_is_halved(striped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    whole = inference._said

    def short_of_memory(model: Any, pictures: Any, *arguments: Any, draw: bool) -> Any:
        sizes.append(len(pictures))
        if len(pictures) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return whole(model, pictures, *arguments, draw=draw)

    monkeypatch.setattr(inference, "_said", short_of_memory)
    paths = sorted((striped.folder / "stripes").rglob("*.png"))[:5]
    for number, path in enumerate(paths):
        striped.storage.write(f"inference/x/{number}", path.read_bytes())
    images = {str(number): f"inference/x/{number}" for number in range(5)}
    answers = predict_all("models/m1", images, storage=striped.storage, settings=striped.settings)
    assert sizes == [5, 2, 2, 1] and all(answer["labels"] for answer in answers)


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
    model = stripes_model(id="m" * 12)
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
