"""Archives of small drawn images that a tiny network can learn, one for each task type, as people would send them."""

import io
import json
import zipfile

import numpy as np
from PIL import Image

from core.datasets import masks
from core.vocabulary import TaskType


def archive_of(task_type: TaskType, images: int = 60, seed: int = 0, classes: tuple[str, str] = ("bright", "dark")) -> bytes:
    """A zip of `images` images of 48 × 48 px with annotations for a task type; always the same for the same arguments.

    `classes` are the folders of bright and of dark images where each image has one label.
    """
    draws = np.random.default_rng(seed)
    files: dict[str, bytes] = {}
    if task_type is TaskType.SINGLE_LABEL:
        for number in range(images):
            label, level = ((classes[0], 200), (classes[1], 40))[number % 2]
            files[f"{label}/{number}.png"] = _png(draws.normal(level, 20, (48, 48)))
    elif task_type is TaskType.MULTI_LABEL:
        lines = []
        for number in range(images):
            grey = draws.normal(60, 15, (48, 48))
            present = {"left": bool(number & 1), "right": bool(number & 2)}
            for place, label in enumerate(present):
                if present[label]:
                    grey[12:36, 4 + 24 * place : 20 + 24 * place] = 230
                lines.append(f"{number}.png,{label},{int(present[label])}")
            files[f"{number}.png"] = _png(grey)
        files["label.csv"] = "\n".join(lines).encode()
    else:
        files |= _squares(draws, images)
    return _packed(files)


def regions_of(images: int = 60, seed: int = 0) -> bytes:
    """A zip of images of 48 × 48 px with mask pictures beside them: one value for each class, nothing told of single objects."""
    draws = np.random.default_rng(seed)
    files: dict[str, bytes] = {}
    for number in range(images):
        grey, mask = draws.normal(128, 12, (48, 48)), np.zeros((48, 48), np.uint8)
        for label, level in enumerate((235, 20)):
            side = int(draws.integers(12, 20))
            x, y = label * 24 + int(draws.integers(0, 24 - side + 1)), int(draws.integers(0, 48 - side))
            grey[y : y + side, x : x + side] = level
            mask[y : y + side, x : x + side] = label + 1
        drawn = io.BytesIO()
        Image.fromarray(mask).save(drawn, "PNG")
        files |= {f"images/{number}.png": _png(grey), f"masks/{number}.png": drawn.getvalue()}
    return _packed(files)


def image_of(level: int = 200) -> bytes:
    """One PNG to try a model on."""
    return _png(np.random.default_rng(level).normal(level, 20, (48, 48)))


def _packed(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content)
    return packed.getvalue()


def _squares(draws: np.random.Generator, images: int) -> dict[str, bytes]:
    """COCO with boxes and masks: a bright and a dark square on grey."""
    files: dict[str, bytes] = {}
    listed, annotations = [], []
    for number in range(1, images + 1):
        grey = draws.normal(128, 12, (48, 48))
        for label, level in enumerate((235, 20)):
            side = int(draws.integers(12, 20))
            x, y = label * 24 + int(draws.integers(0, 24 - side + 1)), int(draws.integers(0, 48 - side))
            grey[y : y + side, x : x + side] = level
            mask = np.zeros((48, 48), np.uint8)
            mask[y : y + side, x : x + side] = 1
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "bbox": [x, y, side, side]}
                | {"area": side * side, "iscrowd": 0, "segmentation": {"size": [48, 48], "counts": masks.encode(mask)}}
            )
        files[f"images/{number}.png"] = _png(grey)
        listed.append({"id": number, "file_name": f"{number}.png", "width": 48, "height": 48})
    categories = [{"id": 1, "name": "bright square"}, {"id": 2, "name": "dark square"}]
    files["instances.json"] = json.dumps({"images": listed, "annotations": annotations, "categories": categories}).encode()
    return files


def _png(grey: np.ndarray) -> bytes:
    drawn = io.BytesIO()
    Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB").save(drawn, "PNG")
    return drawn.getvalue()
