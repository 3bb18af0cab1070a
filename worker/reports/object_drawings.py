"""Objects drawn on an image: a box or a mask each, with its name. For reports and for tests of a model on an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from core.datasets.fonts import font_for

Colour = tuple[int, int, int]
_TEXT = 12  # px
_DASH = 4  # px


@dataclass(frozen=True)
class Drawn:
    """One object: its box x1, y1, x2, y2 in pixels of the image, a text at its upper edge, and its mask [height, width] where it has one."""

    box: tuple[float, float, float, float]
    colour: Colour
    text: str = ""
    dashed: bool = False
    mask: NDArray[np.uint8] | None = None


def draw_objects(image: Image.Image, objects: Sequence[Drawn], side: int) -> Image.Image:
    """The image with its longer side `side` px long, and the objects on it; the first ones lie above the others."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    resampling = Image.Resampling.NEAREST if scale >= 4 else Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    picture = image.convert("RGB").resize(size, resampling)
    for one in reversed(objects):
        if one.mask is not None:
            picture = _covered(picture, one.mask, one.colour)
    draw = ImageDraw.Draw(picture)
    for one in reversed(objects):
        x1, y1, x2, y2 = (round(value * scale) for value in one.box)
        corners = (x1, y1, max(x1 + 2, x2 - 1), max(y1 + 2, y2 - 1))
        if one.dashed:
            _dashed(draw, corners, one.colour)
        else:
            # A dark line outside the coloured one keeps both seen on any ground.
            draw.rectangle((corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1), outline=(0, 0, 0))
            draw.rectangle(corners, outline=one.colour, width=2)
    for one in reversed(objects):
        if one.text:
            _write(draw, one, scale, size)
    return picture


def _write(draw: ImageDraw.ImageDraw, one: Drawn, scale: float, size: tuple[int, int]) -> None:
    font = font_for(one.text, _TEXT)
    width, height = round(font.getlength(one.text)) + 4, _TEXT + 3
    x, y = round(one.box[0] * scale) - 1, round(one.box[1] * scale) - height
    x = max(0, min(x, size[0] - width))
    y = y if y >= 0 else min(round(one.box[3] * scale) + 1, size[1] - height)
    draw.rectangle((x, y, x + width, y + height), one.colour)
    dark = sum(one.colour) > 380
    draw.text((x + 2, y + height / 2), one.text, (0, 0, 0) if dark else (255, 255, 255), font, anchor="lm")


def _covered(picture: Image.Image, mask: NDArray[np.uint8], colour: Colour) -> Image.Image:
    cover = Image.fromarray(mask * np.uint8(115)).resize(picture.size, Image.Resampling.BILINEAR)
    return Image.composite(Image.new("RGB", picture.size, colour), picture, cover)


def _dashed(draw: ImageDraw.ImageDraw, corners: tuple[int, int, int, int], colour: Colour) -> None:
    left, top, right, bottom = corners
    for line, (start, end) in enumerate(((left, right), (left, right), (top, bottom), (top, bottom))):
        for place in range(start, end, 2 * _DASH):
            until = min(place + _DASH, end)
            y = top if line == 0 else bottom
            x = left if line == 2 else right
            draw.line((place, y, until, y) if line < 2 else (x, place, x, until), colour, 2)
