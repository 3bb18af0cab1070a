"""What the wizard and the task threads show, in neutral types; each face draws them within its platform's limits.

All text is plain: names from people stand in it as they are, and a face escapes everything it sends.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class Tone(StrEnum):
    """How a piece of text is meant."""

    PLAIN = "plain"
    HEADING = "heading"
    HINT = "hint"
    GOOD = "good"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    body: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True)
class Facts:
    """Names and values, one line each, under an optional title.

    `buttons`, one for each row where there are any, lead from a row to what it is about. They are among the controls too: a face that can put a
    button beside a row draws it there instead.
    """

    rows: tuple[tuple[str, str], ...]
    title: str = ""
    buttons: "tuple[Button, ...]" = ()


@dataclass(frozen=True)
class ProgressBar:
    """How far something is: `fraction` 0–1 and a caption."""

    fraction: float
    caption: str


@dataclass(frozen=True)
class Picture:
    """A picture. `key` is its object in the storage; a preview page is made when a face first asks for it."""

    alt: str
    key: str = ""
    preview: "PreviewReference | None" = None


@dataclass(frozen=True)
class PreviewReference:
    """One page of a dataset's annotated thumbnails, 1-based; without annotations where no set is named."""

    dataset_id: str
    annotation_set_id: str
    page: int


Block = Text | Facts | ProgressBar | Picture


@dataclass(frozen=True)
class Option:
    """One choice of a menu."""

    value: str
    label: str
    hint: str = ""


@dataclass(frozen=True)
class Menu:
    """One choice out of several. `options` is the first page; where `total` is more, faces search through `conversation.options`.

    `always_open` asks for radio buttons where the platform has them.
    """

    action: str
    label: str
    options: tuple[Option, ...]
    total: int
    selected: str = ""
    selected_label: str = ""
    always_open: bool = False


@dataclass(frozen=True)
class Confirm:
    """A question asked before a button acts."""

    question: str
    yes: str
    no: str = "No"


@dataclass(frozen=True)
class Button:
    """A button. `style` is default, primary or danger."""

    action: str
    label: str
    style: str = "default"
    value: str = ""
    confirm: Confirm | None = None


@dataclass(frozen=True)
class Field:
    """One typed input, filled with `value`. `kind` is text, paragraph, integer, number, toggle or choice."""

    name: str
    label: str
    kind: str
    value: str
    hint: str = ""
    choices: tuple[str, ...] = ()
    required: bool = False
    max_length: int = 100
    error: str = ""


@dataclass(frozen=True)
class Form:
    """Typed inputs sent together; a dialog where the platform has one, reached by a button with the form's title."""

    action: str
    title: str
    fields: tuple[Field, ...]
    submit: str = "Save"

    @property
    def errors(self) -> int:
        """How many fields hold a value that was refused."""
        return sum(bool(item.error) for item in self.fields)


Control = Menu | Button | Form


@dataclass(frozen=True)
class StepMark:
    """One part of the way; `state` is done, current or ahead."""

    title: str
    state: str


@dataclass(frozen=True)
class Screen:
    """One view of the wizard. Each control is pressed with `draft_id`, `version` and its action."""

    draft_id: str
    version: int
    title: str
    steps: tuple[StepMark, ...]
    blocks: tuple[Block, ...]
    controls: tuple[Control, ...]
    notice: Text | None = None
    ended: bool = False
    task_id: str = ""

    def menus(self) -> Iterator[Menu]:
        """The menus, in order."""
        return (control for control in self.controls if isinstance(control, Menu))

    def forms(self) -> Iterator[Form]:
        """The forms, in order."""
        return (control for control in self.controls if isinstance(control, Form))

    def buttons(self) -> Iterator[Button]:
        """The buttons, in order."""
        return (control for control in self.controls if isinstance(control, Button))


@dataclass(frozen=True)
class Message:
    """A message of a task's thread. `key` names it for ever (task, kind, event number), so that it is posted once."""

    key: str
    blocks: tuple[Block, ...]
    buttons: tuple[Button, ...] = ()
    announcement: str = ""  # one line for the channel, beside the message in the thread


@dataclass(frozen=True)
class OptionPage:
    """A part of a menu's options that match a search, and how many match in all."""

    options: tuple[Option, ...]
    total: int = field(default=0)
