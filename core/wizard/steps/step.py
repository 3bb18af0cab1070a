"""What a step of the wizard is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from core.wizard.context import StepContext
from core.wizard.draft import Choices
from core.wizard.screens import Block, Control, Option, OptionPage

FIRST_OPTIONS = 100  # of a long menu; faces ask for more by searching


@dataclass(frozen=True)
class Input:
    """What a press brings: the rest of its action after the colon, a menu's or button's value, a form's typed values."""

    target: str = ""
    value: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """What a step contributes to the screen, between the step bar and Back, Next, Cancel."""

    blocks: tuple[Block, ...]
    controls: tuple[Control, ...]


class Step(Protocol):
    """One question of the conversation. Steps hold no state: everything is in `context.choices`."""

    name: str
    section: str  # dataset, model or start
    title: str

    def applies(self, choices: Choices) -> bool:
        """Whether this step is on the way, given the choices so far."""
        ...

    def prepare(self, context: StepContext) -> None:
        """Bring the choices up to date before the step is shown: defaults, suggestions, things that vanished."""
        ...

    def show(self, context: StepContext) -> View:
        """The step as it stands."""
        ...

    def act(self, context: StepContext, given: Input) -> None:
        """Take a choice into `context.choices`.

        Raises:
            InvalidInputError: when it cannot be taken; the choices stay as they were, but for what was typed.
        """
        ...

    def missing(self, context: StepContext) -> str:
        """What must be answered before going on, as a sentence; empty when nothing is."""
        ...

    def options(self, context: StepContext, target: str, query: str, offset: int, limit: int) -> OptionPage:
        """The options of the step's menu `target` that match `query`."""
        ...


def matching(options: list[Option], query: str, offset: int, limit: int) -> OptionPage:
    """The part of a short list of options whose label or hint contains every word of `query`."""
    words = query.lower().split()
    found = [option for option in options if all(word in f"{option.label} {option.hint} {option.value}".lower() for word in words)]
    return OptionPage(tuple(found[offset : offset + limit]), len(found))


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 image`, `5,000 images`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
