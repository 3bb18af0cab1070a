"""The person at the keyboard: arrow keys for menus and buttons, typed input for forms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import questionary
from prompt_toolkit.application import get_app
from prompt_toolkit.styles import Style
from questionary import Choice

from core.tasks.hyperparameters import FieldError
from core.tuning.search import TYPED_FIELDS, typed_product
from core.wizard.screens import Button, Confirm, Control, Field, Form, Menu, OptionPage

_LEAVE = object()  # questionary takes a value of None for the label
PAGE = 30  # options shown at once; more through search and "more"
STYLE = Style([("qmark", "fg:ansicyan bold"), ("pointer", "fg:ansicyan bold"), ("highlighted", "fg:ansicyan bold"), ("answer", "bold")])

Search = Callable[[Menu, str, int, int], OptionPage]


@dataclass(frozen=True)
class Answer:
    """What was pressed, ready for `conversation.Press`, and how it reads in the transcript."""

    action: str
    said: str
    value: str = ""
    values: dict[str, str] | None = None


def ask_controls(controls: Sequence[Control], search: Search, leave: str = "") -> Answer | None:
    """Let the person choose one of several controls and use it. Comes back to the list when they change their mind.

    `leave` is the label of a way out that presses nothing; None is returned then.
    """
    while True:
        control = _choose_control(controls, leave)
        answer: Answer | None
        if control is None:
            return None
        if isinstance(control, Menu):
            try:
                answer = _ask_menu(control, search)
            except KeyboardInterrupt:  # back to the buttons
                answer = None
        elif isinstance(control, Form):
            answer = ask_form(control)
        else:
            answer = press(control)
        if answer is not None:
            return answer


def press(button: Button) -> Answer | None:
    """Press a button, after its question where it has one."""
    if button.confirm is not None and not confirm(button.confirm):
        return None
    return Answer(button.action, button.label, button.value)


def confirm(question: Confirm) -> bool:
    """Ask a yes-or-no question with its own words."""
    return bool(choose(question.question, [Choice(question.yes, True), Choice(question.no, False)]))


def choose(question: str, choices: list[Choice], default: Choice | str | None = None) -> Any:
    """The value of one of several choices, by arrow keys. Raises KeyboardInterrupt on Ctrl-C."""
    select = questionary.select(
        question, choices=choices, default=default, style=STYLE, qmark="▸", instruction="(arrow keys, Enter)", use_jk_keys=False
    )
    return select.unsafe_ask()


def type_text(
    question: str, default: str = "", check: Callable[[str], bool | str] = lambda text: True, below: Callable[[str], str] | None = None
) -> str:
    """A typed line; `check` says True, or what is wrong; `below` what stands at the foot of the screen while it is typed."""
    toolbar: dict[str, Any] = {} if below is None else {"bottom_toolbar": lambda: below(get_app().current_buffer.text)}
    return str(questionary.text(question, default=default, validate=check, style=STYLE, qmark="▸", **toolbar).unsafe_ask())


def _choose_control(controls: Sequence[Control], leave: str) -> Control | None:
    choices, default, way_on = [], None, None
    for control in controls:
        if isinstance(control, Menu):
            choice = Choice(f"{control.label}: {control.selected_label}" if control.selected_label else f"{control.label}…", control)
            default = default or (choice if not control.selected else None)
        elif isinstance(control, Form):
            choice = Choice(f"{control.title}…", control)
        else:
            choice = Choice(f"[ {control.label} ]", control)
            way_on = way_on or (choice if control.style == "primary" else None)
        choices.append(choice)
    if leave:
        choices.append(Choice(leave, _LEAVE))
    # The cursor stands on what is still open, then on the way on.
    chosen = choose("Your turn", choices, default or way_on)
    return None if chosen is _LEAVE else chosen


def _ask_menu(menu: Menu, search: Search) -> Answer | None:
    query, offset = "", 0
    while True:
        page = search(menu, query, offset, PAGE)
        choices = [Choice(f"{option.label}  {option.hint}".rstrip(), option) for option in page.options]
        default = next((choice for choice, option in zip(choices, page.options, strict=True) if option.value == menu.selected), None)
        if offset + PAGE < page.total:
            choices.append(Choice(f"… more ({page.total - offset - PAGE:,})", "more"))
        if menu.total > PAGE or query:
            choices.append(Choice("⌕ search", "search"))
        choices.append(Choice("↩ back to the buttons", "leave"))
        found = f" matching “{query}”: {page.total:,}" if query else ""
        chosen = choose(f"{menu.label}{found}", choices, default)
        if chosen == "more":
            offset += PAGE
        elif chosen == "search":
            query, offset = type_text("Search for"), 0
        elif chosen == "leave":
            return None
        else:
            return Answer(menu.action, f"{menu.label}: {chosen.label}", chosen.value)


def ask_form(form: Form) -> Answer | None:
    """Ask for each field, filled with its current value; a hyperparameter's range is checked as it is entered.

    Ctrl-C ends it: what has been entered until then counts, the other fields stay as they are; None where that is nothing.
    """
    values = {field.name: field.value for field in form.fields}
    counts = typed_product(values) is not None
    entered = 0
    try:
        for field in form.fields:

            def product(text: str, name: str = field.name) -> str:
                return typed_product({**values, name: text}) or ""

            values[field.name] = _ask_field(field, product if counts else None)
            entered += 1
    except KeyboardInterrupt:
        if not entered:
            return None
    return Answer(form.action, form.title, values=values)


def _ask_field(field: Field, below: Callable[[str], str] | None = None) -> str:
    """Ask for one field; `below` is what stands under the input while it is typed."""
    if field.kind in ("toggle", "choice"):
        options = ("on", "off") if field.kind == "toggle" else field.choices
        return str(choose(field.label, [Choice(item, item) for item in options], field.value if field.value in options else None))

    def check(text: str) -> bool | str:
        if field.name in TYPED_FIELDS:
            try:
                TYPED_FIELDS[field.name].parse(text)
            except FieldError as error:
                return error.what
            return True
        if field.required and not text.strip():
            return f"{field.label} must not be empty."
        return True if len(text) <= field.max_length else f"Up to {field.max_length:,} characters; {len(text):,} were given."

    return type_text(f"{field.label} — {field.hint}" if field.hint else field.label, field.value, check, below)
