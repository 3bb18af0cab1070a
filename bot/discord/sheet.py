"""One message of ours in Components V2, put together so that it never breaks a limit of Discord's."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import discord
from discord import ui

from bot.discord.custom_ids import Control
from bot.discord.items import PressButton, PressMenu, Row
from bot.discord.markdown import cut, one_line

MAX_COMPONENTS = 40
MAX_CHARACTERS = 4000
MAX_BUTTONS_IN_ROW = 5
MAX_OPTIONS = 25
MAX_FILES = 10
MAX_LABEL = 80
MAX_PLACEHOLDER = 150
MAX_ALT = 1024
WIDE = 1.6  # width over height from which on a picture can be read only when nothing stands beside it


def safe_name(name: str) -> str:
    """A file name that Discord gives back as it is, so that `attachment://` finds it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[-80:] or "file"


@dataclass(frozen=True)
class NamedFile:
    """A file of a message; of a picture `ratio` is its width over its height."""

    name: str
    data: bytes
    ratio: float = 1.0


@dataclass(frozen=True)
class Drawn:
    """A message ready to be sent, as often as it takes."""

    view: ui.LayoutView
    files: tuple[NamedFile, ...] = ()

    def uploads(self) -> list[discord.File]:
        """The files; each of these objects can be sent once only."""
        return [discord.File(io.BytesIO(file.data), filename=file.name) for file in self.files]


@dataclass
class Paragraph:
    """Markdown whose contents have been escaped."""

    markdown: str
    components = 1

    def items(self) -> Row:
        """As a component."""
        return ui.TextDisplay(self.markdown)


@dataclass
class Gallery:
    """Pictures side by side, each with what it shows."""

    pictures: list[tuple[NamedFile, str]]
    components = 1

    def items(self) -> Row:
        """As a component."""
        gallery: ui.MediaGallery[ui.LayoutView] = ui.MediaGallery()
        for file, alt in self.pictures:
            gallery.add_item(media=f"attachment://{file.name}", description=alt)
        return gallery


@dataclass
class Download:
    """A file to be downloaded."""

    file: NamedFile
    components = 1

    def items(self) -> Row:
        """As a component."""
        return ui.File(f"attachment://{self.file.name}")


@dataclass
class Controls:
    """A row of a menu or of up to five buttons."""

    controls: list[Row]

    @property
    def components(self) -> int:
        """The row counts too."""
        return 1 + len(self.controls)

    def items(self) -> Row:
        """As a component."""
        return ui.ActionRow(*self.controls)


@dataclass
class Beside:
    """Markdown with a button of its own at its right."""

    markdown: str
    button: Row
    components = 3

    def items(self) -> Row:
        """As a component."""
        return ui.Section(self.markdown, accessory=self.button)


@dataclass
class Gap:
    """Some room, with a line in it where something else begins."""

    line: bool
    components = 1

    def items(self) -> Row:
        """As a component."""
        return ui.Separator(visible=self.line)


Part = Paragraph | Gallery | Download | Controls | Beside | Gap


@dataclass
class Sheet:
    """Texts, pictures, files and rows of controls, in order. Texts that follow one another become one component.

    `mark` is the container's id, by which the message can be found again in a channel's history.
    """

    colour: int | None = None
    mark: int | None = None
    parts: list[Part] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)
    _files: int = 0

    def text(self, markdown: str) -> None:
        """Add a paragraph of markdown whose contents have been escaped."""
        if not markdown.strip():
            return
        last = self.parts[-1] if self.parts else None
        if isinstance(last, Paragraph):
            last.markdown += f"\n{markdown}"
        else:
            self.parts.append(Paragraph(markdown))

    def picture(self, file: NamedFile, alt: str) -> None:
        """Add a picture to the gallery at this place, a wide one in its full width; beyond ten files nothing is added."""
        if self._files >= MAX_FILES or file.name in self._taken:  # a file is sent once, however often it is asked for
            return
        self._files += 1
        self._taken.add(file.name)
        picture = (file, cut(alt, MAX_ALT))
        last = self.parts[-1] if self.parts else None
        wide = file.ratio >= WIDE
        if isinstance(last, Gallery) and not (wide or last.pictures[-1][0].ratio >= WIDE):
            last.pictures.append(picture)
        else:
            self.gap()
            self.parts.append(Gallery([picture]))

    def file(self, file: NamedFile) -> None:
        """Add a file to be downloaded; beyond ten files nothing is added."""
        if self._files < MAX_FILES and self._take(file.name):
            self._files += 1
            self.parts.append(Download(file))

    def beside(self, markdown: str, control: Control, label: str, style: discord.ButtonStyle) -> None:
        """Add a paragraph with a button of its own; the paragraph alone where the same button stands already."""
        if custom_id := self._take(control.pack()):
            self.parts.append(Beside(markdown, _button(custom_id, label, style)))
        else:
            self.text(markdown)

    def gap(self, *, line: bool = False) -> None:
        """Add some room; none where nothing stands above."""
        if self.parts and not isinstance(self.parts[-1], Gap):
            self.parts.append(Gap(line))

    def menu(self, control: Control, placeholder: str, options: Sequence[discord.SelectOption]) -> None:
        """Add a row with a menu; of more than 25 options the first 25."""
        if options and (custom_id := self._take(f"m{control.pack()}")):
            select: ui.Select[ui.LayoutView] = ui.Select(
                custom_id=custom_id, placeholder=one_line(placeholder, MAX_PLACEHOLDER), options=list(options[:MAX_OPTIONS])
            )
            self.parts.append(Controls([PressMenu(select)]))

    def buttons(self, buttons: Sequence[tuple[Control, str, discord.ButtonStyle]]) -> None:
        """Add rows of up to five buttons; what would do the same as one that stands already is not added."""
        items: list[Row] = []
        for control, label, style in buttons:
            if custom_id := self._take(control.pack()):
                items.append(_button(custom_id, label, style))
        for start in range(0, len(items), MAX_BUTTONS_IN_ROW):
            self.parts.append(Controls(items[start : start + MAX_BUTTONS_IN_ROW]))

    def drawn(self) -> Drawn:
        """The message. Too long texts lose their ends, the longest first; of too many components the middle ones are left out.

        What stands last are the ways on, so these stay.
        """
        parts = _fitting_number(self.parts)
        while parts and isinstance(parts[-1], Gap):
            del parts[-1]
        parts = parts or [Paragraph("–")]  # Discord refuses an empty message
        _fit_texts([part for part in parts if isinstance(part, (Paragraph, Beside))])
        view = ui.LayoutView(timeout=None)
        container: ui.Container[ui.LayoutView] = ui.Container(*(part.items() for part in parts), accent_colour=self.colour, id=self.mark)
        view.add_item(container)
        files = [file for part in parts if isinstance(part, Gallery) for file, _ in part.pictures]
        return Drawn(view, (*files, *(part.file for part in parts if isinstance(part, Download))))

    def crowded(self) -> bool:
        """Whether there is more than a message can hold."""
        return _components([part for part in self.parts if not isinstance(part, Gap)]) > MAX_COMPONENTS

    def _take(self, custom_id: str) -> str:
        if custom_id in self._taken:
            return ""
        self._taken.add(custom_id)
        return custom_id


def _button(custom_id: str, label: str, style: discord.ButtonStyle) -> Row:
    return PressButton(ui.Button(custom_id=custom_id, label=one_line(label, MAX_LABEL), style=style))


def _fitting_number(parts: list[Part]) -> list[Part]:
    """As many parts as fit: the container counts too. Room between them goes first, then the last but one, as the last hold the ways on."""
    fitting = list(parts)
    if _components(fitting) > MAX_COMPONENTS:
        fitting = [part for part in fitting if not isinstance(part, Gap)]
    while _components(fitting) > MAX_COMPONENTS:
        del fitting[-2]
    return fitting


def _components(parts: Sequence[Part]) -> int:
    return 1 + sum(part.components for part in parts)


def _fit_texts(texts: Sequence[Paragraph | Beside]) -> None:
    while (total := sum(len(text.markdown) for text in texts)) > MAX_CHARACTERS:
        longest = max(texts, key=lambda text: len(text.markdown))
        kept = longest.markdown[: max(1, len(longest.markdown) - (total - MAX_CHARACTERS) - 1)]
        # At the end of a line where there is one, and never in the middle of an escape.
        kept = kept.rpartition("\n")[0] or kept
        longest.markdown = f"{kept.rstrip(chr(92))}…"
