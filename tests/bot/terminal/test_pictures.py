"""Pictures in a terminal leave room for what is asked about them."""

import io
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from bot.terminal.pictures import PictureShelf
from core.wizard.screens import Picture


@pytest.mark.parametrize("size", [(1300, 700), (800, 800), (400, 1200), (2000, 100)])
@pytest.mark.parametrize("height", [24, 45, 60])
def test_a_picture_takes_at_most_half_of_the_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: tuple[int, int], height: int
) -> None:
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, "PNG")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    console = Console(width=110, height=height, force_terminal=True, file=io.StringIO())
    shelf = PictureShelf(console, tmp_path, lambda _: out.getvalue())
    lines = console.render_lines(shelf.draw(Picture("A preview", key="previews/1.png")))
    drawn = next(number for number, line in enumerate(lines) if "A preview" in "".join(segment.text for segment in line))
    assert 2 <= drawn <= height // 2 + 1
