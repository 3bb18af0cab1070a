"""Objects drawn on an image: a box or a mask each, with its name. For reports and for tests of a model on an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from core.datasets.fonts import font_for, shortened
from core.datasets.images import flattened

Colour = tuple[int, int, int]
_Area = tuple[int, int, int, int]  # left, top, right, bottom
_TEXT, _TEXT_SHARE = 12, 50  # px at least, and one part in so many of the picture's longer side: large pictures are shown scaled down
_TEXT_PART = 10  # of the shorter side at most: else names cover what they name
_LINE, _LINE_SHARE = 2, 300
_DASH = 4  # px
_DARK = (0, 0, 0)
_NARROW, _LONGEST = 160, 2048  # px


@dataclass(frozen=True)
class Drawn:
    """One object: its box x1, y1, x2, y2 in pixels of the image, a name at its edge, a `value` behind the name that is never shortened, and
    its mask [height, width] where it has one.
    """

    box: tuple[float, float, float, float]
    colour: Colour
    name: str = ""
    value: str = ""
    dashed: bool = False
    mask: NDArray[np.uint8] | None = None


def drawn_side(size: tuple[int, int], side: int) -> int:
    """How long the longer side of a picture of an image is drawn, in pixels: `side`, or where the shorter one were narrow, so much that it is not."""
    return max(side, min(_LONGEST, round(_NARROW * max(size) / min(size))))


def draw_objects(image: Image.Image, objects: Sequence[Drawn], side: int) -> Image.Image:
    """The image with its longer side `side` px long, and the objects on it; the first ones lie above the others.

    A name is written where it covers no other; one for which there is no such place is left out.
    """
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    resampling = Image.Resampling.NEAREST if scale >= 4 else Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    picture = flattened(image).resize(size, resampling)
    for one in reversed(objects):
        if one.mask is not None:
            picture = _covered(picture, one.mask, one.colour)
    draw = ImageDraw.Draw(picture)
    thick = max(_LINE, side // _LINE_SHARE)
    for one in reversed(objects):
        x1, y1, x2, y2 = (round(value * scale) for value in one.box)
        corners = (x1, y1, max(x1 + 2, x2 - 1), max(y1 + 2, y2 - 1))
        # A dark line, outside the coloured one or between its dashes, keeps both seen on any ground.
        if one.dashed:
            draw.rectangle(corners, outline=_DARK, width=thick)
            _dashed(draw, corners, one.colour, thick)
        else:
            draw.rectangle((corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1), outline=_DARK)
            draw.rectangle(corners, outline=one.colour, width=thick)
    taken: list[_Area] = []
    for one in objects:
        if one.name or one.value:
            _write(draw, one, scale, size, taken)
    return picture


def _write(draw: ImageDraw.ImageDraw, one: Drawn, scale: float, size: tuple[int, int], taken: list[_Area]) -> None:
    """Write an object's name where no other is: above its box, below it, or within; `taken` gets the place."""
    letters = max(_TEXT, min(max(size) // _TEXT_SHARE, min(size) // _TEXT_PART))
    value = f" {one.value}" if one.name and one.value else one.value
    text = shortened(one.name, letters, max(letters, size[0] - 4 - round(font_for(value, letters).getlength(value)))) + value
    font = font_for(text, letters)
    width, height = round(font.getlength(text)) + 4, letters + 3
    x1, y1, x2, y2 = (round(value * scale) for value in one.box)
    for left in (x1 - 1, x2 + 1 - width):
        for top in (y1 - height, y2 + 1, y1 + 2, y2 - 2 - height):
            x = max(0, min(left, size[0] - width))
            area = (x, top, x + width, top + height)
            if top < 0 or top + height > size[1] or any(_meet(area, other) for other in taken):
                continue
            taken.append(area)
            draw.rectangle(area, one.colour)
            dark = sum(one.colour) > 380
            draw.text((x + 2, top + height / 2), text, _DARK if dark else (255, 255, 255), font, anchor="lm")
            return


def _meet(one: _Area, other: _Area) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _covered(picture: Image.Image, mask: NDArray[np.uint8], colour: Colour) -> Image.Image:
    cover = Image.fromarray(mask * np.uint8(115)).resize(picture.size, Image.Resampling.BILINEAR)
    return Image.composite(Image.new("RGB", picture.size, colour), picture, cover)


def _dashed(draw: ImageDraw.ImageDraw, corners: _Area, colour: Colour, thick: int) -> None:
    left, top, right, bottom = corners
    for place in range(left, right, 2 * _DASH):
        until = min(place + _DASH, right)
        draw.rectangle((place, top, until, top + thick - 1), colour)
        draw.rectangle((place, bottom - thick + 1, until, bottom), colour)
    for place in range(top, bottom, 2 * _DASH):
        until = min(place + _DASH, bottom)
        draw.rectangle((left, place, left + thick - 1, until), colour)
        draw.rectangle((right - thick + 1, place, right, until), colour)
