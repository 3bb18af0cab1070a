"""The manifest creates an app that can do what the bot does: by Slack's rules for manifests, and by what each method and event needs."""

import ast
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from slack_sdk import WebClient
from slack_server import FakeSlack

import bot.slack
from bot.slack.entries import COMMANDS, TRAIN, TRAIN_ON_MESSAGE
from bot.slack.installations import SCOPES

ROOT = Path(__file__).parents[3]

# What Slack's pages about each method and event say.
SCOPES_OF_METHODS = {
    "auth_test": (),
    "chat_delete": ("chat:write",),
    "chat_getPermalink": (),
    "chat_postEphemeral": ("chat:write",),
    "chat_postMessage": ("chat:write",),
    "chat_update": ("chat:write",),
    "conversations_history": ("channels:history", "groups:history", "im:history", "mpim:history"),
    "conversations_open": ("im:write",),
    "conversations_replies": ("channels:history", "groups:history", "im:history", "mpim:history"),
    "files_info": ("files:read",),
    "files_upload_v2": ("files:write",),
    "users_info": ("users:read",),
    "views_open": (),
    "views_publish": (),
    "views_update": (),
}
SCOPES_OF_EVENTS = {
    "app_home_opened": (),
    "app_mention": ("app_mentions:read",),
    "app_uninstalled": (),
    "message.channels": ("channels:history",),
    "message.groups": ("groups:history",),
    "message.im": ("im:history",),
    "message.mpim": ("mpim:history",),
    "tokens_revoked": (),
}


@pytest.fixture(scope="module")
def manifest() -> Any:
    return yaml.safe_load((ROOT / "manifest.yaml").read_text())


def called_methods() -> set[str]:
    """The methods of the Web API that the code of the Slack face names."""
    known = {name for name, _ in inspect.getmembers(WebClient, inspect.isfunction) if not name.startswith("_")} - {"api_call"}
    found = set()
    for module in pkgutil.iter_modules(bot.slack.__path__, "bot.slack."):
        source = (ROOT / Path(*module.name.split("."))).with_suffix(".py").read_text()
        found |= {
            node.func.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
    return found & known


def test_slack_takes_the_manifest(manifest: Any) -> None:
    assert set(manifest) <= {"_metadata", "display_information", "features", "oauth_config", "settings"}
    shown = manifest["display_information"]
    assert len(shown["name"]) <= 35 and len(shown["description"]) <= 140
    assert re.fullmatch(r"#[0-9a-fA-F]{6}", shown["background_color"])
    assert set(manifest["features"]) <= {"app_home", "bot_user", "shortcuts", "slash_commands"}
    assert len(manifest["features"]["bot_user"]["display_name"]) <= 80
    for command in manifest["features"]["slash_commands"]:
        assert set(command) <= {"command", "description", "usage_hint", "should_escape"}  # a url would be refused with Socket Mode
        assert re.fullmatch(r"/[a-z0-9_-]{1,31}", command["command"])
        assert 1 <= len(command["description"]) <= 2000 and len(command.get("usage_hint", "x")) <= 1000
        assert command["should_escape"] is False  # else names of channels and people come in angle brackets
    shortcuts = manifest["features"]["shortcuts"]
    assert len(shortcuts) <= 10
    for shortcut in shortcuts:
        assert set(shortcut) == {"name", "type", "callback_id", "description"} and shortcut["type"] in ("global", "message")
        assert len(shortcut["name"]) <= 24 and len(shortcut["callback_id"]) <= 255 and len(shortcut["description"]) <= 150
    assert set(manifest["settings"]) <= {
        "event_subscriptions",
        "interactivity",
        "org_deploy_enabled",
        "socket_mode_enabled",
        "token_rotation_enabled",
    }
    assert manifest["settings"]["socket_mode_enabled"] and manifest["settings"]["interactivity"] == {"is_enabled": True}


def test_the_manifest_for_http_differs_by_its_addresses_only(manifest: Any) -> None:
    over_http = yaml.safe_load((ROOT / "manifest-http.yaml").read_text())
    events = "https://your.host/slack/events"
    assert all(command.pop("url") == events for command in over_http["features"]["slash_commands"])
    assert over_http["oauth_config"].pop("redirect_urls") == ["https://your.host/slack/oauth_redirect"]
    settings = over_http["settings"]
    assert settings["event_subscriptions"].pop("request_url") == events
    assert settings["interactivity"].pop("request_url") == settings["interactivity"].pop("message_menu_options_url") == events
    assert settings["socket_mode_enabled"] is False
    assert over_http | {"settings": settings | {"socket_mode_enabled": True}} == manifest


def test_every_command_and_shortcut_is_listened_to(manifest: Any) -> None:
    assert {item["command"] for item in manifest["features"]["slash_commands"]} == {"/train", *COMMANDS}
    assert {(item["callback_id"], item["type"]) for item in manifest["features"]["shortcuts"]} == {
        (TRAIN, "global"),
        (TRAIN_ON_MESSAGE, "message"),
    }


def test_the_scopes_are_those_that_methods_and_events_need_and_no_others(manifest: Any) -> None:
    methods, events = called_methods(), manifest["settings"]["event_subscriptions"]["bot_events"]
    needed = {"commands"}
    for method in methods:
        needed |= set(SCOPES_OF_METHODS[method])
    for event in events:
        needed |= set(SCOPES_OF_EVENTS[event])
    assert sorted(manifest["oauth_config"]["scopes"]["bot"]) == sorted(needed) == sorted(SCOPES)
    assert set(events) == set(SCOPES_OF_EVENTS)


def test_the_local_slack_has_every_method_that_is_called() -> None:
    for method in called_methods() - {"files_upload_v2"}:
        assert hasattr(FakeSlack, "api_" + method), method
