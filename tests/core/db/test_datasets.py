"""An import on both databases: names of any script, values as JSON, findings; out of sight until it is whole."""

import io
from pathlib import Path

from PIL import Image

from core.access import Actor
from core.datasets.holding import drop_dataset, keep_dataset
from core.datasets.importing import import_dataset
from core.datasets.listing import findings_of, list_datasets
from core.datasets.records import load_records
from core.db.migrate import upgrade
from core.db.session import Database
from core.settings import Settings
from core.storage import Storage


def test_an_import_with_findings_is_held_then_kept_or_dropped(database: Database, tmp_path: Path) -> None:
    upgrade(database)
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        out = io.BytesIO()
        Image.new("RGB", (32, 24), (number * 40, 0, 0)).save(out, "PNG")
        (source / f"{number}.png").write_bytes(out.getvalue())
    (source / "label.csv").write_text('0.png,犬 "x",1,2,3.5,4\n1.png,кошка,1,2,300,4\n2.png\n0.png,犬,900,1,1,1\n', encoding="utf-8")
    settings = Settings(home=tmp_path / "home", min_free_bytes=0, _env_file=None)
    storage, actor = Storage.of(settings), Actor("default", "cli:test", "test", admin=True)

    def bring(name: str) -> str:
        return import_dataset(
            database, storage, settings, workspace="default", person=actor.person, name=name, source=str(source), hold=True
        ).id

    held, unwanted = bring("données"), bring("unwanted")
    with database.read() as session:
        assert list_datasets(session, "default") == ([], 0)
    drop_dataset(database, storage, actor, unwanted)
    dataset = keep_dataset(database, actor, held)
    with database.read() as session:
        (found,), _ = list_datasets(session, "default", search="DONNÉES")
        records = load_records(session, found.id, found.annotation_sets[0].id)
        derived = load_records(session, found.id, found.annotation_sets[1].id)
        findings = [(finding.code, finding.file, finding.line) for finding in findings_of(session, found.id)]
    assert found.id == dataset.id
    classes = found.annotation_sets[0].classes
    assert [[(classes[box[0]], *box[1:]) for box in record.value["boxes"]] for record in records] == [
        [('犬 "x"', 1.0, 2.0, 3.5, 4.0)],
        [("кошка", 1.0, 2.0, 31.0, 4.0)],
        [],
    ]
    assert [len(record.value["labels"]) for record in derived] == [1, 1, 0]
    assert ("box-outside", "label.csv", 4) in findings and ("box-clipped", "label.csv", 2) in findings
    assert {key.split("/")[1] for key in storage.list("datasets")} == {found.id}
