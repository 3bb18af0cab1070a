"""Pictures in a terminal: drawn where the terminal can, and always saved to a file whose path is shown."""

import hashlib
import io
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from rich.console import Console, Group, RenderableType
from rich.text import Text as RichText

from core.errors import StationmasterError
from core.wizard.screens import Picture

logger = logging.getLogger(__name__)

MINIMUM_COLUMNS = 60
MAXIMUM_COLUMNS = 110
MINIMUM_ROWS = 8


class PictureShelf:
    """Saves the pictures of a conversation in `folder` and draws them for `console`.

    `load` gives a picture's PNG bytes. Drawing asks the terminal what it can (Kitty, Sixel, half blocks), so it is done
    only where standard output is a terminal.
    """

    def __init__(self, console: Console, folder: Path, load: Callable[[Picture], bytes]) -> None:
        self.console = console
        self.folder = folder
        self.load = load

    def draw(self, picture: Picture) -> RenderableType:
        """The picture where the terminal can show it, and below it what it shows and where it lies."""
        try:
            data = self.load(picture)
        except (OSError, StationmasterError) as error:
            logger.warning("a picture could not be loaded: %s", error)
            return RichText(f"{picture.alt}: this picture is not available.", style="yellow")
        path = self._save(picture, data)
        caption = RichText.assemble((f"🖼  {picture.alt}\n", ""), (f"   {path}", "dim underline"), overflow="fold")
        drawn = self._drawn(data)
        return Group(drawn, caption) if drawn is not None else caption

    def _save(self, picture: Picture, data: bytes) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = "preview" if picture.preview else Path(picture.key).stem
        path = self.folder / f"{name}-{hashlib.sha256(data).hexdigest()[:8]}.png"
        if not path.exists():
            path.write_bytes(data)
        return path

    def _drawn(self, data: bytes) -> RenderableType | None:
        if not self.console.is_terminal or not sys.stdout.isatty() or self.console.width < MINIMUM_COLUMNS:
            return None
        # Imported late: the import itself asks the terminal for its abilities.
        logging.getLogger("textual_image").setLevel(logging.CRITICAL)  # a terminal that does not answer is drawn on in half blocks
        from textual_image.renderable import Image as TerminalImage

        image = Image.open(io.BytesIO(data)).convert("RGB")
        # At most half of the terminal: what is asked about the picture is to be seen with it. A cell is taken to be twice as high as wide.
        rows = max(MINIMUM_ROWS, self.console.height // 2)
        width = min(self.console.width - 4, MAXIMUM_COLUMNS, max(1, round(2 * rows * image.width / image.height)))
        drawing: RenderableType = TerminalImage(image, width=width, height="auto")
        return drawing
