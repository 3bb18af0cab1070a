"""The pictures of a report on regions: Dice per class, and the images done best and worst, what is true above what was said."""

from collections import Counter
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from core.datasets.fonts import font_for
from core.datasets.images import flattened
from core.datasets.legend import LINE, colour_of, draw_legend, legend_lines
from core.datasets.records import Record
from core.storage import Storage
from core.vocabulary import AnnotationKind
from worker.objectives.region_maps import FIRST_CLASS, covered_at, regions_of
from worker.objectives.regions import dice_and_iou
from worker.reports import pictures

_INK, _QUIET, _GROUND = (29, 33, 41), (107, 114, 128), (241, 243, 246)
_SIDE, _GAP, _LEFT = 190, 8, 62  # px
_EDGE = 3  # px above and below the legend
_NARROWEST = 360  # px, of a page
_OPACITY = 0.5

Covers = list[tuple[int, NDArray[np.bool_]]]  # class index and where it is, [height, width] of any size


def region_pictures(
    details: dict[str, Tensor], kind: AnnotationKind, classes: Sequence[str], records: Sequence[Record], storage: Storage
) -> dict[str, bytes]:
    """All of them by name, from an evaluation's `details` as `worker.objectives.regions` gives them."""
    dice, _ = dice_and_iou(details["counts"])
    known = [index for index, value in enumerate(dice.tolist()) if value == value]
    drawn = {}
    if len(details["shown_rows"]):
        drawn["best_and_worst"] = best_and_worst(details, kind, classes, records, storage)
    if known:
        drawn["classes"] = pictures.class_bars(
            [float(dice[index]) for index in known], [classes[index] for index in known], "Dice per class", "Dice on the validation images"
        )
    return drawn


def best_and_worst(
    details: dict[str, Tensor], kind: AnnotationKind, classes: Sequence[str], records: Sequence[Record], storage: Storage
) -> bytes:
    """Rows of pairs: the true masks, and below them what the network said, with the image's Dice; above all the classes' colours, the commonest first."""
    dice = dict(zip(details["rows"].tolist(), details["image_dice"].tolist(), strict=True))
    rows = details["shown_rows"].tolist()
    maps = dict(zip(rows, details["shown_maps"].numpy(), strict=True))
    best = int(details["shown_best"])
    groups = [(title, group) for title, group in (("Best", rows[:best]), ("Worst", rows[best:])) if group]
    columns = max(len(group) for _, group in groups)
    used: Counter[int] = Counter()
    body = Image.new("RGB", (max(_NARROWEST, _LEFT + columns * (_SIDE + _GAP)), len(groups) * (2 * (_SIDE + _GAP) + 44)), "white")
    draw = ImageDraw.Draw(body)
    for line, (title, group) in enumerate(groups):
        top = line * (2 * (_SIDE + _GAP) + 44)
        draw.text((_GAP, top + 12), title, _INK, font_for(title, 15), anchor="lm")
        for number, text in enumerate(("true", "said")):
            draw.text((_GAP, top + 26 + number * (_SIDE + _GAP) + _SIDE // 2), text, _QUIET, font_for(text, 13), anchor="lm")
        for number, row in enumerate(group):
            record, left = records[row], _LEFT + number * (_SIDE + _GAP)
            with Image.open(BytesIO(storage.read(record.key))) as image:
                image.draft("RGB", (_SIDE, _SIDE))
                picture = fitted(image, record.width, record.height)
            true: Covers = [(index, covered_at(rle, record.width, record.height, picture.size)) for index, rle in regions_of(record, kind)]
            shown = [int(index) for index in np.unique(maps[row]) if index >= FIRST_CLASS]
            said: Covers = [(index - FIRST_CLASS, (maps[row] == index).any(0)) for index in shown]
            used.update({index for index, _ in true})
            used.update({index for index, _ in said})
            for place, covers in enumerate((true, said)):
                overlaid = covered(picture, covers)
                y = top + 26 + place * (_SIDE + _GAP)
                draw.rectangle((left, y, left + _SIDE - 1, y + _SIDE - 1), _GROUND)
                body.paste(overlaid, (left + (_SIDE - overlaid.width) // 2, y + (_SIDE - overlaid.height) // 2))
            text = f"Dice {100 * dice[row]:.0f} %"
            draw.text((left, top + 26 + 2 * (_SIDE + _GAP) + 4), text, _INK, font_for(text, 12), anchor="lm")
    page = with_legend(body, [index for index, _ in used.most_common()], classes)
    out = BytesIO()
    page.save(out, "PNG", compress_level=4)
    return out.getvalue()


def fitted(image: Image.Image, width: int, height: int, side: int = _SIDE) -> Image.Image:
    """An image in the proportions of `width` × `height`, its longer side `side` px."""
    scale = side / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return flattened(image).resize(size, Image.Resampling.NEAREST if scale >= 4 else Image.Resampling.BICUBIC)


def covered(picture: Image.Image, covers: Covers) -> Image.Image:
    """The picture with each class's place in its colour, half seen through, and outlined; where classes overlap their colours mix, and all outlines lie on top."""
    pixels = np.asarray(picture).astype(np.float32)
    edges = []
    for index, mask in covers:
        scaled = Image.fromarray(mask.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.BILINEAR)
        inside = np.asarray(scaled) >= 128
        padded = np.pad(inside, 1, mode="edge")
        edge = inside & ~(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])
        colour = np.asarray(colour_of(index), np.float32)
        pixels[inside] += _OPACITY * (colour - pixels[inside])
        edges.append((edge, colour))
    for edge, colour in edges:
        pixels[edge] = colour
    return Image.fromarray(pixels.round().astype(np.uint8))


def with_legend(picture: Image.Image, used: Sequence[int], classes: Sequence[str]) -> Image.Image:
    """The picture under lines that name the colours of the classes `used`; a narrow one in the middle of a page that has room for them."""
    width = max(picture.width, _NARROWEST)
    lines = legend_lines(used, classes, width - 2 * _GAP)
    page = Image.new("RGB", (width, picture.height + LINE * len(lines) + 2 * _EDGE), "white")
    draw_legend(ImageDraw.Draw(page), lines, _GAP, _EDGE)
    page.paste(picture, ((width - picture.width) // 2, LINE * len(lines) + 2 * _EDGE))
    return page
