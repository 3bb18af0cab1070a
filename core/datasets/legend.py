"""The colours of classes, the same in all pictures, and the lines above a picture that name them."""

from collections.abc import Sequence

from PIL import ImageDraw

from core.datasets.fonts import font_for, shortened

Colour = tuple[int, int, int]

LINE = 24  # px, of a line's height
_MOST_LINES = 3
_TEXT, _LONGEST = 14, 180  # px
_INK, _QUIET = (29, 33, 41), (107, 114, 128)

# Okabe and Ito (2008), told apart also by most people who see colours differently; black left out, then lighter and darker kin.
_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
    (240, 228, 66),
    (148, 103, 189),
    (140, 86, 75),
    (127, 186, 60),
    (227, 79, 111),
    (71, 201, 196),
)


def colour_of(class_index: int) -> Colour:
    """The colour of a class in all pictures: twelve, then as many darker, then as many paler ones, then again."""
    colour, turn = _COLOURS[class_index % len(_COLOURS)], class_index // len(_COLOURS) % 3
    if turn == 0:
        return colour
    red, green, blue = (part * 5 // 8 if turn == 1 else (part + 255) // 2 for part in colour)
    return red, green, blue


def legend_lines(shown: Sequence[int], classes: Sequence[str], width: int) -> list[list[tuple[str, Colour | None]]]:
    """Names and colours of the classes `shown`, in their order, in at most three lines of `width` px; a text without a colour counts those left out."""
    lines: list[list[tuple[str, Colour | None]]] = [[]]
    used = 0.0
    for place, number in enumerate(shown):
        name = shortened(classes[number], _TEXT, min(_LONGEST, width - 20))
        need = 38 + font_for(name, _TEXT).getlength(name)
        is_last, rest = len(lines) == _MOST_LINES, len(shown) - place
        if lines[-1] and used + need - 18 > width - (100 if is_last and rest > 1 else 0):
            if is_last:
                lines[-1].append((f"and {rest} more", None))
                break
            lines.append([])
            used = 0.0
        lines[-1].append((name, colour_of(number)))
        used += need
    return lines if shown else []


def draw_legend(draw: ImageDraw.ImageDraw, lines: Sequence[Sequence[tuple[str, Colour | None]]], left: int, top: int) -> None:
    """Draw what `legend_lines` gives; it is `LINE` px high a line."""
    for line, entries in enumerate(lines):
        x, middle = float(left), top + LINE * line + LINE // 2
        for name, colour in entries:
            if colour is not None:
                draw.rounded_rectangle((x, middle - 7, x + 14, middle + 7), 3, colour)
                x += 20
            draw.text((x, middle), name, _QUIET if colour is None else _INK, font_for(name, _TEXT), anchor="lm")
            x += font_for(name, _TEXT).getlength(name) + 18
