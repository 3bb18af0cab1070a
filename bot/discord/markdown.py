"""Plain text as Discord's markdown: nothing that people wrote formats, links or mentions."""

import re

# Underscores within words are plain to Discord, so that names of networks stay readable wherever they are looked at.
SPECIAL = re.compile(r"[\\*~`|<>\[\]]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
LINE_START = re.compile(r"^(\s*)(#{1,3}|-#|[-+]|\d+[.)])(?=\s)", re.MULTILINE)
EVERYONE = re.compile(r"@(everyone|here)")
ZERO_WIDTH_SPACE = "\u200b"


def escape(text: str) -> str:
    """The text such that Discord shows it as it is."""
    text = SPECIAL.sub(r"\\\g<0>", text)
    text = LINE_START.sub(lambda match: f"{match[1]}{match[2][:-1]}\\{match[2][-1]}", text)
    return EVERYONE.sub(rf"@{ZERO_WIDTH_SPACE}\1", text)


def cut(text: str, length: int) -> str:
    """The text, or its beginning with an ellipsis."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def one_line(text: str, length: int) -> str:
    """The text on one line, cut; never blank, which Discord refuses."""
    return cut(" ".join(text.split()), length) or "–"
