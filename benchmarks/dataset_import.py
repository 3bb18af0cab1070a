"""What importing costs beside the bare cost of reading and decoding the same images with all cores. Prints one line of JSON.

    python benchmarks/dataset_import.py [--images 5000] [--keep FOLDER]

The set has the shape of COCO val2017: 5,000 JPEGs of about 640 × 480 px, 37,000 boxes with polygons, made here from noise and shapes.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from core.host_limits import usable_cores

BOXES_PER_IMAGE = 7.4


def make_image(job: tuple[Path, int]) -> None:
    """One photograph-like JPEG: blurred noise with shapes, about as large as one of COCO's (160 KB)."""
    path, seed = job
    rng = np.random.default_rng(seed)
    width, height = [(640, 480), (480, 640), (640, 427), (500, 375)][seed % 4]
    coarse = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    fine = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    image = Image.blend(coarse, fine, 0.35)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = rng.integers(0, width), rng.integers(0, height)
        draw.ellipse((x, y, x + 60, y + 40), fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    image.save(path, "JPEG", quality=90)


def make_set(folder: Path, images: int) -> None:
    """Images and annotations as the challenge lays them out."""
    (folder / "val2017").mkdir(parents=True)
    (folder / "annotations").mkdir()
    with ProcessPoolExecutor(usable_cores()) as pool:
        list(pool.map(make_image, [(folder / "val2017" / f"{number:012d}.jpg", number) for number in range(images)], chunksize=50))
    rng = np.random.default_rng(0)
    listed, annotations = [], []
    for number in range(images):
        width, height = [(640, 480), (480, 640), (640, 427), (500, 375)][number % 4]
        listed.append({"id": number, "file_name": f"{number:012d}.jpg", "width": width, "height": height})
        for _ in range(rng.poisson(BOXES_PER_IMAGE)):
            w, h = rng.uniform(10, width * 0.6), rng.uniform(10, height * 0.6)
            x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
            turns = np.linspace(0, 2 * np.pi, int(rng.integers(8, 60)), endpoint=False)
            ring = np.stack([x + w / 2 + np.cos(turns) * w / 2, y + h / 2 + np.sin(turns) * h / 2], 1).round(2).ravel().tolist()
            box = [round(float(side), 2) for side in (x, y, w, h)]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": int(rng.integers(1, 81)),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "segmentation": [ring],
                }
            )
    categories = [{"id": number, "name": f"class {number}", "supercategory": "thing"} for number in range(1, 81)]
    (folder / "annotations" / "instances_val2017.json").write_text(
        json.dumps({"images": listed, "annotations": annotations, "categories": categories})
    )


def decode(path: Path) -> int:
    """Read and fully decode one image, nothing more."""
    image = Image.open(BytesIO(path.read_bytes()))
    image.load()
    return image.width


def bare(folder: Path) -> tuple[float, float]:
    """Seconds, and processor seconds, to read and decode all images once with all cores."""
    paths = sorted((folder / "val2017").iterdir())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with ProcessPoolExecutor(usable_cores()) as pool:
        list(pool.map(decode, paths[: usable_cores()]))
        started = time.perf_counter()
        list(pool.map(decode, paths, chunksize=32))
        seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


IMPORT = """
import json, resource, sys, time
from pathlib import Path
from core.datasets.importing import import_dataset
from core.db.migrate import upgrade
from core.db.session import Database
from core.settings import Settings
from core.storage import Storage
settings = Settings(home=Path(sys.argv[2]))
database = Database.of(settings)
upgrade(database)
started, processor = time.perf_counter(), time.process_time()
dataset = import_dataset(database, Storage.of(settings), settings, workspace="default", person="benchmark", name="set", source=sys.argv[1])
seconds = time.perf_counter() - started
processor = time.process_time() - processor
children = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"seconds": seconds, "processor_seconds": processor + children.ru_utime + children.ru_stime,
    "memory_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + children.ru_maxrss) / 1024, "images": dataset.image_count,
    "boxes": sum(dataset.annotation_sets[0].class_counts)}))
"""


def main() -> None:
    """Make the set, time both, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary) / "set"
        if not folder.exists():
            make_set(folder, arguments.images)
        rounds = []
        for number in range(arguments.rounds):  # side by side, so that a busy machine slows both
            decoded, processor = bare(folder)
            home = Path(temporary) / f"home{number}"
            output = subprocess.run(
                [sys.executable, "-c", IMPORT, str(folder), str(home)], check=True, capture_output=True, text=True
            ).stdout
            rounds.append({"bare_seconds": decoded, "bare_processor_seconds": processor, **json.loads(output)})
        best = min(rounds, key=lambda one: one["seconds"] / one["bare_seconds"])
        ratio, processor_ratio = (
            sorted(one[f"{what}seconds"] / one[f"bare_{what}seconds"] for one in rounds)[len(rounds) // 2] for what in ("", "processor_")
        )
        print(
            json.dumps(
                {
                    "benchmark": "dataset_import",
                    "cores": usable_cores(),
                    "ratio": round(ratio, 3),
                    "processor_ratio": round(processor_ratio, 3),  # what counts where other work makes the clock a lottery
                    "limit": 1.5,
                    **{k: round(v, 2) for k, v in best.items()},
                }
            )
        )


if __name__ == "__main__":
    main()
