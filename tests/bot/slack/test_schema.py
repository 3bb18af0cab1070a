"""Everything that the bot sends to the local Slack is held against Slack's published types: what those refuse is noticed."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from slack_person import Person
from slack_schema import (
    METHODS,
    SCHEMA,
    answer_problems,
    argument_problems,
    block_problems,
    manifest_problems,
    option_problems,
    payload_problems,
    result_problems,
    view_problems,
)
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_server import BOT_TOKEN, FakeSlack

ROOT = Path(__file__).parents[3]


def text(length: int = 5, kind: str = "plain_text") -> dict[str, Any]:
    return {"type": kind, "text": "x" * length}


def button(**more: Any) -> dict[str, Any]:
    return {"type": "button", "action_id": "go", "text": text()} | more


def option(**more: Any) -> dict[str, Any]:
    return {"text": text(), "value": "v"} | more


def section(**more: Any) -> dict[str, Any]:
    return {"type": "section", "text": text(kind="mrkdwn")} | more


def actions(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "actions", "elements": list(elements)}


def field(element: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "input", "label": text(), "element": element} | more


def select(*options: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "static_select", "action_id": "which", "options": list(options)} | more


def modal(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "modal", "title": text(), "submit": text(), "blocks": list(blocks)} | more


PICTURE = {"type": "image", "slack_file": {"id": "F0000000001"}, "alt_text": "curve"}


@pytest.mark.parametrize(
    "block",
    [
        section(accessory=button(style="danger", confirm={"text": text(300), "confirm": text(30)})),
        section(fields=[text(2000)] * 10),
        actions(*[button()] * 25),
        actions(select(*[option()] * 100, initial_option=option())),
        {"type": "header", "text": text(150)},
        {"type": "context", "elements": [text(kind="mrkdwn")]},
        {"type": "divider"},
        PICTURE,
        field({"type": "number_input", "is_decimal_allowed": True, "initial_value": "1"}, optional=True, hint=text()),
    ],
    ids=lambda block: str(block["type"]),
)
def test_what_is_right_passes(block: dict[str, Any]) -> None:
    assert block_problems(block) == []
    assert view_problems(modal(block)) == []


@pytest.mark.parametrize(
    ("block", "what"),
    [
        ({"type": "sektion", "text": text()}, "'sektion' is not one of"),
        ({"text": text()}, "'type' is a required property"),
        ({"type": "header", "text": text(kind="mrkdwn")}, "'plain_text' was expected"),
        ({"type": "header", "text": text(151)}, "is too long"),
        (section(text=text(3001)), "is too long"),
        (section(text=text(0)), "should be non-empty"),
        (section(text="words"), "'words' is not of type 'object'"),
        (section(colour="red"), "'colour' was unexpected"),
        (section(fields=[text()] * 11), "is too long"),
        (section(fields=[text(2001)]), "is too long"),
        (section(accessory=field(button())), "'input' is not one of"),
        (actions(*[button()] * 26), "is too long"),
        (actions(button(text=text(76))), "is too long"),
        (actions(button(value=7)), "7 is not of type 'string'"),
        (actions(button(style="warning")), "'warning' is not one of"),
        (actions(button(confirm={"title": text()})), "'text' is a required property"),
        (actions(select(*[option()] * 101)), "is too long"),
        (actions(select(option(text=text(kind="mrkdwn")))), "'plain_text' was expected"),
        (actions(select(option(value="v" * 200))), "is too long"),
        (actions({"type": "file_input", "action_id": "which"}), "'file_input' is not one of"),
        (PICTURE | {"image_url": "https://example.com/a.png"}, "was unexpected"),
        ({"type": "image", "slack_file": {"id": "F0000000001"}}, "'alt_text' is a required property"),
        (field(button()), "'button' is not one of"),
        (field({"type": "number_input"}), "'is_decimal_allowed' is a required property"),
        (field({"type": "checkboxes", "options": [option()] * 11}), "is too long"),
        (field({"type": "plain_text_input"}, label=text(kind="mrkdwn")), "'plain_text' was expected"),
    ],
)
def test_wrong_blocks_are_refused(block: dict[str, Any], what: str) -> None:
    found = block_problems(block)
    assert any(what in problem for problem in found), found
    assert view_problems(modal(block)) and argument_problems("chat.update", {"channel": "C1", "ts": "1.2", "blocks": [block]})


@pytest.mark.parametrize(
    ("view", "what"),
    [
        (modal(title=text(25)), "is too long"),
        (modal(submit="Save"), "'Save' is not of type 'object'"),
        (modal(*[section()] * 101), "is too long"),
        (modal(private_metadata="x" * 3001), "is too long"),
        (modal(id="V1"), "'id' was unexpected"),
        ({"type": "modal", "blocks": []}, "'title' is a required property"),
        ({"type": "home", "blocks": [], "title": text()}, "'title' was unexpected"),
        ({"type": "page", "blocks": []}, "'page' is not one of"),
    ],
)
def test_wrong_views_are_refused(view: dict[str, Any], what: str) -> None:
    found = view_problems(view)
    assert any(what in problem for problem in found), found
    assert argument_problems("views.open", {"trigger_id": "1.2", "view": view})


def test_wrong_options_are_refused() -> None:
    assert option_problems(option()) == []
    assert option_problems(option(text=text(76))) and option_problems(option(text="words")) and option_problems({"value": "v"})


@pytest.mark.parametrize(
    ("method", "arguments", "what"),
    [
        ("chat.postMessage", {"text": "words"}, "'channel' is a required property"),
        ("chat.postMessage", {"channel": "C1", "text": "words", "thread": "1.2"}, "'thread' was unexpected"),
        ("chat.postMessage", {"channel": "C1", "text": "words", "reply_broadcast": True}, "'thread_ts' is a required property"),
        ("chat.postMessage", {"channel": "C1", "text": "words", "metadata": {"event_typ": "x"}}, "'event_typ' was unexpected"),
        ("chat.update", {"channel": "C1", "text": "words"}, "'ts' is a required property"),
        ("views.open", {"view": modal()}, "'trigger_id' is a required property"),
        ("files.completeUploadExternal", {"files": []}, "should be non-empty"),
        ("files.getUploadURLExternal", {"filename": "a.png", "length": "ten"}, "'ten' is not of type 'number'"),
        ("conversations.history", {"channel": "C1", "inclusive": "maybe"}, "'maybe' is not of type 'boolean'"),
        ("chat.postMassage", {"channel": "C1", "text": "words"}, "is none of the methods"),
    ],
)
def test_wrong_arguments_are_refused(method: str, arguments: dict[str, Any], what: str) -> None:
    found = argument_problems(method, arguments, as_text=True)
    assert any(what in problem for problem in found), found


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("view_submission", {"response_action": "errors", "errors": {"name": ["too long"]}}),
        ("view_submission", {"response_action": "replace", "view": modal()}),
        ("view_submission", {"response_action": "update", "view": modal(title=text(25))}),
        ("block_suggestion", {"options": [{"value": "v"}]}),
        ("response_url", {"text": "words", "response_type": "private"}),
        ("response_url", {"text": "words", "blocks": [section(colour="red")]}),
        ("block_actions", {"text": "words"}),
    ],
)
def test_wrong_answers_are_refused(kind: str, answer: dict[str, Any]) -> None:
    assert answer_problems(kind, answer)
    assert answer_problems("view_submission", {"response_action": "errors", "errors": {"name": "too long"}}) == []
    assert answer_problems("response_url", {"text": "words", "response_type": "ephemeral", "replace_original": False}) == []


def test_the_local_slack_sends_what_slack_sends() -> None:
    with FakeSlack() as slack:
        kind, command = Person(slack, lambda: None).command_payload("/train", "cells")
        assert payload_problems(kind, command) == []
        assert payload_problems(kind, {key: value for key, value in command.items() if key != "trigger_id"})
        with pytest.raises(AssertionError, match="Slack would not send this"):
            slack.send("interactive", {"type": "block_actions", "actions": [{"type": "button", "colour": "red"}]})
        with pytest.raises(AssertionError, match="none of the events"):
            slack.send("events_api", {"type": "event_callback", "event": {"type": "reaction_added"}})
    assert result_problems("files.info", {"ok": True, "file": {"id": "F1", "mimetype": "image/png"}}) == []
    assert result_problems("files.info", {"ok": True, "file": {"id": "F1", "mime_type": "image/png"}})
    assert result_problems("conversations.open", {"ok": True, "channel": "D1"})


def test_a_form_says_numbers_and_yes_and_no_in_words() -> None:
    assert (
        argument_problems(
            "conversations.history", {"channel": "C1", "limit": "20", "include_all_metadata": "1", "oldest": "1.5"}, as_text=True
        )
        == []
    )
    assert argument_problems("files.completeUploadExternal", {"files": '[{"id": "F1", "title": "a"}]'}, as_text=True) == []
    assert argument_problems("conversations.history", {"channel": "C1", "limit": "20"}) == [
        "'20' is not of type 'number' [json-pointer:/limit]"
    ]


def test_the_local_slack_refuses_what_the_types_refuse() -> None:
    with FakeSlack() as slack:
        client = WebClient(BOT_TOKEN, base_url=slack.api_url)
        client.chat_postMessage(channel="C0000MAIN", text="words", blocks=[section()])
        assert slack.violations == []
        with pytest.raises(SlackApiError, match="invalid_arguments"):
            client.chat_postMessage(channel="C0000MAIN", text="words", blocks=[section(accessory=button(emphasis="strong"))])
        with pytest.raises(SlackApiError, match="invalid_arguments"):
            client.files_getUploadURLExternal(filename="a.png", length=3, alt_txt="a picture")
        assert (
            len(slack.violations) == 2
            and "'emphasis' was unexpected" in slack.violations[0]
            and "'alt_txt' was unexpected" in slack.violations[1]
        )
        assert len(slack.messages("C0000MAIN")) == 1


def test_the_pinned_types_say_where_they_come_from_and_under_which_licence() -> None:
    wanted = re.search(r"^PACKAGES = (\{.*\})$", (ROOT / "tools" / "pin_slack_schema.py").read_text(), re.MULTILINE)
    assert wanted
    for package, version in json.loads(wanted[1]).items():
        assert f"{package} {version}" in SCHEMA["$comment"], "tools/pin_slack_schema.py makes it anew"
    assert "Slack Technologies" in SCHEMA["$comment"] and "Permission is hereby granted" in SCHEMA["$comment"]


def test_the_local_slack_has_no_method_without_published_arguments() -> None:
    offered = {
        name.removeprefix("api_").replace("_", ".")
        for name, _ in inspect.getmembers(FakeSlack, inspect.isfunction)
        if name.startswith("api_")
    }
    assert offered == METHODS


@pytest.mark.parametrize("name", ["manifest.yaml", "manifest-http.yaml"])
def test_the_manifests_are_what_slack_says_manifests_are(name: str) -> None:
    manifest = yaml.safe_load((ROOT / name).read_text())
    assert manifest_problems(manifest) == []
    for path, value in (
        (("oauth_config", "scopes", "bot", 0), "files:reed"),
        (("settings", "event_subscriptions", "bot_events", 0), "app_home_open"),
        (("display_information", "description"), "x" * 141),
        (("features", "shortcuts", 0, "type"), "local"),
        (("features", "slash_commands", 0, "commando"), "/train"),
        (("settings", "socket_mode"), True),
    ):
        wrong = json.loads(json.dumps(manifest))
        place = wrong
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        assert manifest_problems(wrong), path
