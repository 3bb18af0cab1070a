"""Small archives of drawn images, one for each kind of annotation, as people send them: what each shows is told apart easily."""

import io
import json
import zipfile
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.datasets import masks

SIDE = 64  # px, of images with objects on them


def packed(files: dict[str, bytes]) -> bytes:
    """Files as a zip."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for name, data in files.items():
            target.writestr(name, data)
    return archive.getvalue()


def png(pixels: NDArray[np.uint8]) -> bytes:
    """An image as PNG."""
    drawn = io.BytesIO()
    Image.fromarray(pixels).save(drawn, "PNG")
    return drawn.getvalue()


def class_folders(*labels: str, each: int = 20) -> bytes:
    """Images of 32 × 32 px in a folder for each label; the labels differ by how bright their images are."""
    draws = np.random.default_rng(0)
    files = {}
    for place, label in enumerate(labels):
        level = 40 + 160 * place // max(1, len(labels) - 1)
        for number in range(each):
            files[f"{label}/{number}.png"] = png((level + draws.integers(-30, 30, (32, 32, 3))).astype(np.uint8))
    return packed(files)


def several_labels(images: int = 32) -> bytes:
    """Images with a bright patch at the left, at the right, at both or none, and a `label.csv`."""
    draws = np.random.default_rng(3)
    files, lines = {}, []
    for number in range(images):
        pixels = draws.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        left, right = bool(number & 1), bool(number & 2)
        pixels[8:24, 2:14] += np.uint8(150 * left)
        pixels[8:24, 18:30] += np.uint8(150 * right)
        files[f"{number}.png"] = png(pixels)
        lines += [f"{number}.png,left,{int(left)}", f"{number}.png,right,{int(right)}"]
    return packed(files | {"label.csv": "\n".join(lines).encode()})


def objects(images: int = 16) -> bytes:
    """A COCO dataset of one bright and one dark square on grey, with boxes and a mask for each."""
    files, listed, annotations = {}, [], []
    for number, (pixels, squares) in enumerate(_scenes(images), 1):
        files[f"images/{number}.png"] = png(pixels)
        listed.append({"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
        for label, mark in squares:
            y, x = (int(places.min()) for places in np.nonzero(mark))
            side = int(mark.any(axis=0).sum())
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "iscrowd": 0,
                    "bbox": [x, y, side, side],
                    "area": side * side,
                    "segmentation": {"size": [SIDE, SIDE], "counts": masks.encode(mark)},
                }
            )
    categories = [{"id": 1, "name": "bright"}, {"id": 2, "name": "dark"}]
    document = {"images": listed, "annotations": annotations, "categories": categories}
    return packed(files | {"instances.json": json.dumps(document).encode()})


def regions(images: int = 16) -> bytes:
    """The same scenes with mask pictures beside them: one value for each class, nothing told of single objects."""
    files = {}
    for number, (pixels, squares) in enumerate(_scenes(images), 1):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for label, mark in squares:
            mask[mark > 0] = label + 1
        files |= {f"images/{number}.png": png(pixels), f"masks/{number}.png": png(mask)}
    return packed(files)


def _scenes(images: int) -> Iterator[tuple[NDArray[np.uint8], list[tuple[int, NDArray[np.uint8]]]]]:
    draws = np.random.default_rng(5)
    for _ in range(images):
        pixels = np.clip(draws.normal(128, 12, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        squares = []
        for label, shade in enumerate((235, 20)):
            side = int(draws.integers(12, 24))
            x, y = label * SIDE // 2 + int(draws.integers(0, SIDE // 2 - side)), int(draws.integers(0, SIDE - side))
            mark = np.zeros((SIDE, SIDE), np.uint8)
            mark[y : y + side, x : x + side] = 1
            pixels[mark > 0] = shade
            squares.append((label, mark))
        yield pixels, squares
