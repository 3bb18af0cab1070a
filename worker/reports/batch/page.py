"""Case studies on a page: of each class samples of what was recognised, invented and overlooked."""

from collections.abc import Sequence
from io import BytesIO

from PIL import Image, ImageDraw

from core.datasets.fonts import font_for
from worker.reports.batch.cases import COLOURS, SAMPLES, Case, fitted_thumbnail
from worker.reports.lettering import shortened

MOST_CLASSES = 12  # drawn on a picture: those with most to look at
_SIDE, _GAP, _LEFT, _TEXT = 132, 8, 116, 17  # px
_INK, _QUIET, _GROUND = (29, 33, 41), (107, 114, 128), (241, 243, 246)
KINDS = {
    "true-positive": "True positives: recognised",
    "false-positive": "False positives: invented",
    "false-negative": "False negatives: overlooked",
}


def case_studies(cases: Sequence[Case], classes: Sequence[str]) -> bytes:
    """A line per class with up to `SAMPLES` of each kind; `classes` in the order in which they are to be shown, the first ones only."""
    shown = [name for name in classes if any(case.label == name for case in cases)][:MOST_CLASSES]
    group = SAMPLES * (_SIDE + _GAP) + 2 * _GAP
    line = _SIDE + _TEXT + 2 * _GAP
    page = Image.new("RGB", (_LEFT + len(KINDS) * group, 40 + max(1, len(shown)) * line), "white")
    draw = ImageDraw.Draw(page)
    for column, (kind, title) in enumerate(KINDS.items()):
        draw.text((_LEFT + column * group, 18), title, COLOURS[kind], font_for(title, 16), anchor="lm")
    if not shown:
        draw.text((_GAP, 60), "Nothing to show.", _QUIET, font_for("Nothing", 14), anchor="lm")
    for place, name in enumerate(shown):
        top = 36 + place * line
        short = shortened(name, 14).replace(r"\$", "$")
        draw.text((_GAP, top + _SIDE // 2), short, _INK, font_for(short, 14), anchor="lm")
        for column, kind in enumerate(KINDS):
            left = _LEFT + column * group
            found = [case for case in cases if case.label == name and case.kind == kind][:SAMPLES]
            if not found:
                draw.text((left, top + _SIDE // 2), "none", _QUIET, font_for("none", 13), anchor="lm")
            for number, case in enumerate(found):
                x = left + number * (_SIDE + _GAP)
                draw.rectangle((x, top, x + _SIDE - 1, top + _SIDE - 1), _GROUND)
                picture = fitted_thumbnail(case.picture(), _SIDE)
                page.paste(picture, (x + (_SIDE - picture.width) // 2, top + (_SIDE - picture.height) // 2))
                text = shortened(case.text, 20).replace(r"\$", "$")
                draw.text((x, top + _SIDE + _TEXT // 2 + 1), text, _INK, font_for(text, 12), anchor="lm")
    out = BytesIO()
    page.save(out, "PNG", compress_level=4)
    return out.getvalue()
