"""What is drawn fits Discord's limits, whatever stands in it; ids, texts, files and dialogs."""

import asyncio
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import discord
import numpy as np
import pytest
from discord_rules import problems
from hypothesis import HealthCheck, given, settings, strategies
from PIL import Image

from bot.desk.reply import Attachment, Reply
from bot.discord.custom_ids import Control, Verb, unpack
from bot.discord.dialogs import form_dialog, open_control, parts_of
from bot.discord.files import fitting_files, fitting_picture
from bot.discord.markdown import escape
from bot.discord.render import load_pictures, mark_of, reply_message, screen_message, thread_message
from bot.discord.sheet import Drawn
from core.errors import StationmasterError
from core.storage import Storage
from core.wizard.screens import Button, Facts, Field, Form, Menu, Message, Option, Picture, ProgressBar, Screen, StepMark, Text, Tone

WORDS = strategies.text(alphabet=strategies.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=300)
TEXTS = strategies.builds(Text, WORDS | strategies.text("*_#`\\", min_size=4000, max_size=5000), strategies.sampled_from(Tone))
FACTS = strategies.builds(Facts, strategies.lists(strategies.tuples(WORDS, WORDS), max_size=20).map(tuple), WORDS)
LISTED = strategies.lists(strategies.tuples(WORDS, WORDS, strategies.text("ab", min_size=1, max_size=9)), min_size=1, max_size=20)
LISTS = strategies.builds(
    lambda rows, title: Facts(
        tuple((name, text) for name, text, _ in rows), title, tuple(Button("task:show", name, value=about) for name, _, about in rows)
    ),
    LISTED,
    WORDS,
)
BARS = strategies.builds(ProgressBar, strategies.floats(-1, 2), WORDS)
PICTURES = strategies.builds(Picture, WORDS, strategies.sampled_from([f"p{number}" for number in range(15)]))
BLOCKS = strategies.lists(TEXTS | FACTS | LISTS | BARS | PICTURES, min_size=1, max_size=25).map(tuple)
OPTIONS = strategies.lists(strategies.builds(Option, strategies.text("abc", min_size=1, max_size=99), WORDS, WORDS), max_size=100).map(
    tuple
)
MENUS = strategies.builds(
    Menu, strategies.sampled_from([f"choose:menu{number}" for number in range(6)]), WORDS, OPTIONS, strategies.integers(0, 10**6),
    strategies.text("abc", max_size=3), WORDS, strategies.booleans(),
)  # fmt: skip
OPEN_MENUS = strategies.builds(
    lambda number, options: Menu(f"choose:open{number}", "Open", options, len(options), always_open=True),
    strategies.integers(0, 5),
    strategies.lists(strategies.builds(Option, strategies.text("abc", min_size=1, max_size=30), WORDS, WORDS), min_size=1, max_size=6).map(
        tuple
    ),
)
BUTTONS = strategies.builds(
    Button, strategies.sampled_from(["next", "back", "start", "choose:page"]), WORDS, strategies.sampled_from(["default", "danger"]), strategies.text("01", max_size=20)
)  # fmt: skip
FIELDS = strategies.builds(
    Field, strategies.uuids().map(str), WORDS, strategies.sampled_from(["text", "paragraph", "integer", "toggle", "choice"]), WORDS, WORDS,
    strategies.just(("a", "b")), strategies.booleans(), strategies.integers(1, 1000), WORDS,
)  # fmt: skip
FORMS = strategies.builds(
    Form, strategies.sampled_from(["submit:a", "submit:b"]), WORDS, strategies.lists(FIELDS, min_size=1, max_size=17).map(tuple)
)
CONTROLS = strategies.lists(MENUS | OPEN_MENUS | BUTTONS | FORMS, max_size=30).map(tuple)

PNG = io.BytesIO()
Image.new("RGB", (8, 8)).save(PNG, "PNG")


def sent(drawn: Drawn) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    body = {"components": drawn.view.to_components(), "flags": 1 << 15, "allowed_mentions": {"parse": []}}
    return body, [(file.name, file.data) for file in drawn.files]


def drawn_in_a_loop(draw: Callable[[], Drawn]) -> Drawn:
    async def work() -> Drawn:
        return draw()

    return asyncio.run(work())


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(blocks=BLOCKS, controls=CONTROLS, title=WORDS, notice=TEXTS)
def test_any_screen_fits(blocks: Any, controls: Any, title: str, notice: Text) -> None:
    screen = Screen("d" * 16, 10**6, title, (StepMark("Dataset", "current"),), blocks, controls, notice)
    pictures = load_pictures(blocks, lambda _: PNG.getvalue(), 10**6)
    assert not problems("POST", "/channels/1/messages", *sent(drawn_in_a_loop(lambda: screen_message(screen, pictures))))


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(blocks=BLOCKS, buttons=strategies.lists(BUTTONS, max_size=15).map(tuple))
def test_any_message_and_reply_fits(blocks: Any, buttons: Any) -> None:
    pictures = load_pictures(blocks, lambda _: PNG.getvalue(), 10**6)
    message = Message("key", blocks, buttons)
    assert not problems("POST", "/channels/1/messages", *sent(drawn_in_a_loop(lambda: thread_message(message, pictures, mark_of("key")))))
    assert not problems("POST", "/channels/1/messages", *sent(drawn_in_a_loop(lambda: reply_message(Reply(blocks, buttons), pictures))))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(form=FORMS)
def test_any_form_fits_its_dialogs(form: Form) -> None:
    async def dialogs() -> list[dict[str, Any]]:
        control = Control(Verb.FORM, form.action, "1", "d" * 16, 10**6)
        return [form_dialog(form, open_control(control, part), part).to_dict() for part in range(1, parts_of(form) + 1)]

    for modal in asyncio.run(dialogs()):
        assert not problems("POST", "/interactions/1/t/callback", {"type": 9, "data": modal}, [])


def test_a_custom_id_comes_back_as_it_went() -> None:
    for control in (
        Control(Verb.PRESS, "choose:dataset", "a|b c", "d1", 7),
        Control(Verb.ASK, "task:stop", "t1 keep"),
        Control(Verb.FORM, "task:rename t1"),
    ):
        assert unpack(control.pack()) == control
    for foreign in ("", "x|p|a|", "w|p|d|x|a|", "d|?|a|", "some other bot's"):
        assert unpack(foreign) is None
    with pytest.raises(ValueError):
        Control(Verb.PRESS, "a" * 100).pack()


def test_text_from_people_formats_links_and_mentions_nothing() -> None:
    assert escape("*bold* [a](b) <@1> `x` ||y|| ~~z~~") == r"\*bold\* \[a\](b) \<@1\> \`x\` \|\|y\|\| \~\~z\~\~"
    assert escape("# title\n- item\n1. one\n> quote") == "\\# title\n\\- item\n1\\. one\n\\> quote"
    assert escape("tf_efficientnet_lite0 _em_ __x__") == r"tf_efficientnet_lite0 \_em\_ \_\_x\_\_"
    assert "@everyone" not in escape("@everyone @here") and "@here" not in escape("@everyone @here")


def test_pictures_are_made_smaller_until_they_fit() -> None:
    noisy = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 900, 3), dtype=np.uint8)).save(noisy, "PNG")
    small = fitting_picture(noisy.getvalue(), 100_000)
    assert len(small) <= 100_000 and Image.open(io.BytesIO(small)).format == "JPEG"
    with pytest.raises(ValueError):
        fitting_picture(noisy.getvalue(), 100)


def test_wide_pictures_are_shown_in_their_full_width() -> None:
    def load(picture: Picture) -> bytes:
        drawn = io.BytesIO()
        Image.new("RGB", (800, 300) if picture.alt == "curves" else (300, 300)).save(drawn, "PNG")
        return drawn.getvalue()

    pictures = tuple(Picture(name, name) for name in ("curves", "matrix", "cases"))
    drawn = drawn_in_a_loop(lambda: reply_message(Reply(pictures), load_pictures(pictures, load, 10**6)))
    galleries = [item for item in drawn.view.to_components()[0]["components"] if item["type"] == 12]
    assert [[item["description"] for item in gallery["items"]] for gallery in galleries] == [["curves"], ["matrix", "cases"]]


def test_a_picture_that_cannot_be_had_is_told_of() -> None:
    def missing(_: Picture) -> bytes:
        raise StationmasterError("gone")

    picture = Picture("Curves", "k")
    drawn = drawn_in_a_loop(lambda: reply_message(Reply((picture,)), load_pictures((picture,), missing, 100)))
    assert "Curves (the picture cannot be shown)" in str(drawn.view.to_components())


def test_files_beyond_the_limit_are_named_with_their_place(storage: Storage) -> None:
    storage.write("models/m/weights", b"w" * 200)
    files, notes = fitting_files((Attachment("a b.json", b"{}"), Attachment("w", key="models/m/weights")), storage, 100)
    assert [file.name for file in files] == ["a-b.json"]
    assert len(notes) == 1 and str(storage.local_path("models/m/weights")) in notes[0]


def test_files_beyond_the_limit_have_a_link_where_the_storage_can_sign_one(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write("models/m/weights", b"w" * 200)
    monkeypatch.setattr(storage, "local_path", lambda _: None)
    monkeypatch.setattr(storage.filesystem, "sign", lambda path, expiration: f"https://store.test/{path}?for={expiration}", raising=False)
    _, notes = fitting_files((Attachment("w", key="models/m/weights"),), storage, 100)
    assert f"https://store.test/{storage.root}/models/m/weights?for=604800" in notes[0]


def test_the_invite_link_of_the_guide_has_just_the_permissions_it_explains() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "discord.md").read_text()
    link = re.search(r"permissions=(\d+)", guide)
    assert link is not None
    least = discord.Permissions(
        view_channel=True,
        send_messages=True,
        create_public_threads=True,
        send_messages_in_threads=True,
        attach_files=True,
        read_message_history=True,
    )
    assert int(link[1]) == least.value
