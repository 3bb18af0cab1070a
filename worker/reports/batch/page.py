"""Case studies on a page: of each class samples of what was recognised, invented and overlooked."""

from collections.abc import Sequence
from io import BytesIO

from PIL import Image, ImageDraw

from core.datasets.fonts import font_for, shortened
from worker.reports.batch.cases import COLOURS, SAMPLES, Case, fitted_thumbnail

MOST_CLASSES = 12  # drawn on a picture: those with most to look at
_SIDE, _GAP, _TOP = 148, 8, 40  # px
_NAME, _TEXT = 26, 17  # px, of the line above a class's pictures, and of each of the lines below a picture
_INK, _QUIET, _GROUND = (29, 33, 41), (107, 114, 128), (241, 243, 246)
KINDS = {
    "true-positive": "True positives: recognised",
    "false-positive": "False positives: invented",
    "false-negative": "False negatives: overlooked",
}
# Where a class's pixels are tinted, what each tint means.
TINTS = {"true-positive": "recognised", "false-positive": "said, but not there", "false-negative": "there, but overlooked"}
_LEGEND = 26  # px, of the line that says so


def case_studies(cases: Sequence[Case], classes: Sequence[str]) -> bytes:
    """Of each class up to `SAMPLES` of each kind under its name; `classes` in the order in which they are to be shown, the first ones only.

    Above them a legend, where their pixels are tinted.
    """
    shown = [name for name in classes if any(case.label == name for case in cases)][:MOST_CLASSES]
    lines = max((case.text.count("\n") + 1 for case in cases), default=1)
    group = SAMPLES * (_SIDE + _GAP) + 2 * _GAP
    height = _NAME + _SIDE + lines * _TEXT + 2 * _GAP
    above = _TOP + (_LEGEND if any(case.tinted for case in cases) else 0)
    page = Image.new("RGB", (_GAP + len(KINDS) * group, above + max(1, len(shown)) * height), "white")
    draw = ImageDraw.Draw(page)
    for column, (kind, title) in enumerate(KINDS.items()):
        draw.text((_GAP + column * group, 18), title, COLOURS[kind], font_for(title, 16), anchor="lm")
    if above > _TOP:
        _draw_legend(draw, _TOP - 8)
    if not shown:
        draw.text((_GAP, 60), "Nothing to show.", _QUIET, font_for("Nothing", 14), anchor="lm")
    for place, name in enumerate(shown):
        top = above + place * height
        draw.line((_GAP, top - _GAP, page.width - 3 * _GAP, top - _GAP), _GROUND, 2)
        short = shortened(name, 15, page.width - 4 * _GAP)
        draw.text((_GAP, top + _NAME // 2 - 2), short, _INK, font_for(short, 15), anchor="lm")
        top += _NAME
        for column, kind in enumerate(KINDS):
            left = _GAP + column * group
            found = [case for case in cases if case.label == name and case.kind == kind][:SAMPLES]
            if not found:
                draw.text((left, top + _SIDE // 2), "none", _QUIET, font_for("none", 13), anchor="lm")
            for number, case in enumerate(found):
                x = left + number * (_SIDE + _GAP)
                draw.rectangle((x, top, x + _SIDE - 1, top + _SIDE - 1), _GROUND)
                picture = fitted_thumbnail(case.picture(), _SIDE)
                page.paste(picture, (x + (_SIDE - picture.width) // 2, top + (_SIDE - picture.height) // 2))
                for line, text in enumerate(case.text.split("\n")):
                    text = shortened(text, 12, _SIDE)
                    draw.text((x, top + _SIDE + line * _TEXT + _TEXT // 2 + 1), text, _INK, font_for(text, 12), anchor="lm")
    out = BytesIO()
    page.save(out, "PNG", compress_level=4)
    return out.getvalue()


def _draw_legend(draw: ImageDraw.ImageDraw, top: int) -> None:
    x, middle, opening = float(_GAP), top + _LEGEND // 2, "Pixels of the class, in every picture:"
    draw.text((x, middle), opening, _QUIET, font_for(opening, 13), anchor="lm")
    x += font_for(opening, 13).getlength(opening) + 12
    for kind, text in TINTS.items():
        draw.rounded_rectangle((x, middle - 7, x + 14, middle + 7), 3, COLOURS[kind])
        draw.text((x + 20, middle), text, _INK, font_for(text, 13), anchor="lm")
        x += 44 + font_for(text, 13).getlength(text)
