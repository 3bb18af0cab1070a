"""Whatever the core has to show fits into Slack's limits: blocks, dialogs and options made of anything, held against Slack's rules."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from slack_person import read, typed
from slack_rules import message_problems, options_problems, size, view_problems

from bot.slack.forms import form_view, refused_values, typed_values
from bot.slack.render import VIEW_BLOCKS, menu_blocks, message_blocks, options, reply_blocks, screen_blocks, screen_text
from bot.slack.text import bold, clip, clip_markup, literal, plain
from core.tuning.search import TYPED_FIELDS
from core.wizard.screens import (
    Block,
    Button,
    Confirm,
    Control,
    Facts,
    Field,
    Form,
    Menu,
    Message,
    Option,
    Picture,
    ProgressBar,
    Screen,
    StepMark,
    Text,
    Tone,
)

# What people call things: control characters of Slack's, marks of its markup, emoji that count twice, blanks, nothing at all.
PIECES = (
    "",
    "a",
    " ",
    "\n",
    "&",
    "<",
    ">",
    "<!channel>",
    "<@U1>",
    "*",
    "_",
    "~",
    "`",
    "😀",
    "&amp;",
    "é",
    ":tada:",
    "-",
    "word ",
    "x" * 40,
)
MONSTERS = ("y" * 5000, "😀" * 2000, "&" * 4000, "* " * 2000, "`" * 3500)
FIELDS = ("name", "epochs", "learning_rate", "hue", "rotation", "batch_size")
KINDS = ("text", "paragraph", "integer", "number", "toggle", "choice")


class Odd(random.Random):
    """Makes things to be shown out of odd texts."""

    def text(self) -> str:
        if self.random() < 0.1:
            return self.choice(MONSTERS)
        return "".join(self.choices(PIECES, k=self.choice((0, 1, 5, 30, 100))))

    def several(self, most: int, make: Callable[[], Any]) -> tuple[Any, ...]:
        return tuple(make() for _ in range(self.choice((0, 1, 2, most // 2, most))))

    def block(self) -> Block:
        kind = self.randrange(4)
        if kind == 0:
            return Text(self.text(), self.choice(list(Tone)))
        if kind == 1:
            rows = self.several(12, lambda: (self.text(), self.text()))
            return Facts(rows, self.text(), tuple(self.button() for _ in rows) if self.random() < 0.3 else ())
        if kind == 2:
            return ProgressBar(self.uniform(-1, 2), self.text())
        return Picture(self.text(), key="k")

    def button(self) -> Button:
        confirm = Confirm(self.text(), self.text(), self.text()) if self.random() < 0.5 else None
        style = self.choice(("default", "primary", "danger"))
        return Button(f"noun:verb{self.randrange(99)}", self.text(), style, self.text(), confirm)

    def option(self) -> Option:
        return Option(f"{self.randrange(10**9)}{self.choice(('', '&<', 'v' * 160))}", self.text(), self.text())

    def menu(self) -> Menu:
        offered = self.several(130, self.option)
        chosen = self.choice(offered).value if offered and self.random() < 0.7 else ""
        total = len(offered) + self.choice((0, 0, 900)) if offered else 0
        return Menu(f"choose:{self.randrange(99)}", self.text(), offered, total, chosen, self.text(), self.random() < 0.5)

    def form(self) -> Form:
        fields = tuple(
            Field(
                name,
                self.text(),
                self.choice([kind for kind in KINDS if kind != "integer" or name in ("epochs", "name")]),
                self.choice((self.text(), "1e-06", "7", "nan", "-0.5")),
                self.text(),
                tuple(f"choice {number}" for number in range(self.randrange(1, 9))),
                self.random() < 0.5,
                self.randrange(1, 5000),
                self.text(),
            )
            for name in self.sample(FIELDS, self.randrange(1, len(FIELDS) + 1))
        )
        return Form(f"noun:verb{self.randrange(99)}", self.text(), fields, self.text() or "Save")

    def controls(self) -> tuple[Control, ...]:
        return self.several(40, lambda: self.choice((self.button, self.button, self.form, self.menu))())


def file_of(picture: Picture) -> str | None:
    return {0: "F00000001", 1: "", 2: None}[len(picture.alt) % 3]


@pytest.mark.parametrize("seed", range(15))
def test_every_screen_message_and_list_is_one_that_slack_takes(seed: int) -> None:
    odd = Odd(seed)
    blocks, controls = odd.several(70, odd.block), odd.controls()
    steps = (StepMark(odd.text(), "current"), StepMark("b", "ahead"))
    screen = Screen("draft0", 3, odd.text(), steps, blocks, controls, Text(odd.text()))
    assert message_problems({"blocks": screen_blocks(screen, file_of), "text": screen_text(screen)}) == []
    buttons = tuple(item for item in controls if isinstance(item, Button))
    shown = message_blocks(Message("k", blocks, buttons), file_of)
    assert not shown or message_problems({"blocks": shown, "text": "x"}) == []
    for limit in (50, VIEW_BLOCKS):
        drawn = reply_blocks(blocks, controls, file_of, limit)
        assert len(drawn) <= limit
        assert not drawn or view_problems({"type": "home", "blocks": drawn}) == []


@pytest.mark.parametrize("seed", range(15))
def test_every_dialog_is_one_that_slack_takes_and_comes_back_as_it_stood(seed: int) -> None:
    odd = Odd(seed)
    form = odd.form()
    view = form_view(form, {"kind": "desk"}, upload="An archive" if seed % 2 else "", error=odd.text())
    assert view_problems(view) == []
    state = {
        block["block_id"]: {block["element"]["action_id"]: typed(block["element"], None, None)}
        for block in view["blocks"]
        if block["type"] == "input"
    }
    values, files = typed_values(view | {"state": {"values": state}})
    assert files == [] and set(values) - {"files"} == {field.name for field in form.fields}
    assert all(len(text) <= 300 for text in refused_values(view, values).values())


@pytest.mark.parametrize("seed", range(8))
def test_options_that_were_searched_for_fit(seed: int) -> None:
    odd = Odd(seed)
    assert options_problems({"options": options(odd.several(150, odd.option))}) == []
    for block in menu_blocks(odd.menu(), "wizard:d:1:menu0"):
        assert message_problems({"blocks": [block], "text": "x"}) == []


@pytest.mark.parametrize("seed", range(8))
def test_what_is_cut_is_cut_between_characters_and_never_in_an_entity(seed: int) -> None:
    odd = Odd(seed)
    for _ in range(20):
        text, limit = odd.text(), odd.randrange(4, 300)
        for cut in (clip(text, limit), clip_markup(literal(text), limit), clip_markup(bold(text), limit), plain(text, limit)["text"]):
            assert size(cut) <= limit, (text[:80], limit)
            assert message_problems({"text": cut or "x"}) == []


def test_names_of_people_read_as_they_were_typed() -> None:
    for name in ("*bold* _it_ ~no~ `code`", "<!here> & <@U1>", "a_b_c", "5 < 6 > 4", "&amp;"):
        assert read({"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": literal(name)}}]}) == name


def test_every_numeric_field_can_be_filled_with_its_bounds() -> None:
    for name, typed_field in TYPED_FIELDS.items():
        for bound in (typed_field.minimum, typed_field.maximum):
            if bound is None:
                continue
            shown = Field(name, typed_field.label, typed_field.kind, str(bound))
            view = form_view(Form("a:b", "Values", (shown,)), {})
            assert view_problems(view) == []
            assert float(view["blocks"][0]["element"]["initial_value"]) == bound
