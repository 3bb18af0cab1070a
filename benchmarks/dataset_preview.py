"""How soon the first page of a preview is there in a dataset of 100,000 images. Prints one line of JSON; exit code 1 above a second.

    python benchmarks/dataset_preview.py [--images 100000]

Rows as an import of photographs with boxes leaves them, over fifty stored JPEGs of 640 × 480 px: what is timed is finding and drawing a
page, as if the import had not drawn the first one already, and then the page that it has drawn.
"""

import argparse
import json
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from sqlalchemy import insert

from core.datasets.previews import preview_page
from core.db.migrate import upgrade
from core.db.session import Database
from core.db.tables import Annotation, AnnotationSet, Dataset, DatasetImage
from core.settings import Settings
from core.storage import Storage

LIMIT_SECONDS = 1.0
DIFFERENT = 50


def fill(database: Database, storage: Storage, images: int) -> None:
    """The rows, and the pictures that they share."""
    for number in range(DIFFERENT):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        out = BytesIO()
        Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC).save(out, "JPEG", quality=92)
        storage.write(f"datasets/d/images/{number}.jpg", out.getvalue())
    with database.write() as session:
        session.add(Dataset(id="d", workspace="default", name="large", state="ready", image_count=images, created_by="benchmark"))
        session.flush()
        session.add(
            AnnotationSet(
                id="s",
                dataset_id="d",
                position=0,
                name="boxes",
                kind="boxes",
                classes=["a", "b"],
                class_counts=[images] * 2,
                image_count=images,
            )
        )
    for start in range(0, images, 5000):
        numbers = range(start, min(images, start + 5000))
        with database.write() as session:
            session.execute(
                insert(DatasetImage),
                [
                    {"dataset_id": "d", "position": n, "path": f"{n}.jpg", "key": f"datasets/d/images/{n % DIFFERENT}.jpg", "width": 640, "height": 480, "sha256": ""}
                    for n in numbers
                ],
            )  # fmt: skip
            boxes = [[0, 30, 40, 200, 100], [1, 300, 40, 200, 300]]
            session.execute(insert(Annotation), [{"annotation_set_id": "s", "position": n, "value": {"boxes": boxes}} for n in numbers])


def main() -> None:
    """Fill, ask for pages, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=100_000)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as temporary:
        settings = Settings(home=Path(temporary), min_free_bytes=0)
        database, storage = Database.of(settings), Storage.of(settings)
        upgrade(database)
        fill(database, storage, images)
        seconds = {}
        for what, page in (("first", 1), ("again", 1), ("middle", images // 100), ("last", images // 50)):
            started = time.perf_counter()
            preview_page(database, storage, settings, "d", "s", page)
            seconds[what] = round(time.perf_counter() - started, 3)
    print(json.dumps({"benchmark": "dataset_preview", "images": images, "seconds": seconds, "limit": LIMIT_SECONDS}))
    sys.exit(seconds["first"] > LIMIT_SECONDS)


if __name__ == "__main__":
    main()
