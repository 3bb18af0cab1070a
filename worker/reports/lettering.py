"""Names of classes in pictures: fonts that know their script, and lengths that fit."""

from collections.abc import Iterable, Sequence

import matplotlib
from matplotlib import font_manager

from core.datasets.fonts import font_for
from core.names import first_of


def use_fonts_for(texts: Iterable[str]) -> None:
    """Let matplotlib write `texts` with a font of this host that knows their script, where there is one."""
    paths = {str(font_for(text, 12).path) for text in texts}
    families = ["DejaVu Sans"]
    for path in sorted(paths):
        font_manager.fontManager.addfont(path)
        family = font_manager.FontProperties(fname=path).get_name()
        if family not in families:
            families.append(family)
    matplotlib.rcParams["font.family"] = families


def listed(names: Sequence[str], length: int) -> str:
    """As many whole `names` as fit in `length` characters, and how many more there are; a first one that does not fit is `shortened`."""
    for shown in range(len(names), 0, -1):
        if len(text := first_of(names, shown)) <= length:
            return shortened(text, length)
    more = first_of(["", *names[1:]], 1)
    return shortened(names[0], length - len(more)) + more


def shortened(text: str, length: int) -> str:
    """`text` of at most `length` characters, its beginning and end kept; matplotlib's own markup is taken literally."""
    tail = length // 3
    short = text if len(text) <= length else f"{text[: length - 1 - tail]}…{text[-tail:]}"
    return short.replace("$", r"\$")
