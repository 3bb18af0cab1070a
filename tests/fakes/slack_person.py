"""A person at a local Slack: types commands, presses what stands on the screen, fills in dialogs. Payloads are whole, as Slack sends them."""

import html
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from slack_server import BOT_USER, Acknowledged, FakeSlack, texts


@dataclass
class Person:
    """One member of the team. `settle` waits until the bot has done what it was asked for."""

    slack: FakeSlack
    settle: Callable[[], object]
    user: str = "U0000ADA"
    channel: str = "C0000MAIN"
    acknowledged: list[Acknowledged] = field(default_factory=list)

    # ---------------------------------------------------------------- what they see

    def thread(self) -> str:
        """The newest thread of the channel."""
        return next(item["thread_ts"] for item in reversed(self.slack.channels[self.channel].messages) if item.get("thread_ts"))

    def screen(self, thread: str = "") -> dict[str, Any]:
        """The wizard's message in a thread."""
        messages = self.slack.messages(self.channel, thread or self.thread())
        return next(item for item in messages if any(block["type"] == "header" for block in item["blocks"]))

    def read(self, message: dict[str, Any] | None = None) -> str:
        """A message as it reads."""
        return read(message or self.screen())

    def told(self) -> list[str]:
        """What only they have been told, the newest last."""
        mine = [read(item) for item in self.slack.ephemerals if item["user"] == self.user]
        return mine + [read(item) for used in self.slack.responses.values() for item in used]

    # ---------------------------------------------------------------- what they do

    def command(self, command: str, text: str = "") -> Acknowledged:
        return self._send(*self.command_payload(command, text))

    def command_payload(self, command: str, text: str = "") -> tuple[str, dict[str, Any]]:
        channel = self.slack.channels[self.channel]
        payload = {
            "token": "verification",
            "team_id": self.team,
            "team_domain": "fake",
            "channel_id": self.channel,
            "channel_name": "directmessage" if channel.user else channel.name,
            "user_id": self.user,
            "user_name": self.slack.users[self.user]["name"],
            "command": command,
            "text": _escaped(text),
            "api_app_id": "A0000FAKE",
            "is_enterprise_install": "false",
            "response_url": self.slack.new_response_url(),
            "trigger_id": self.slack.new_trigger(),
        }
        return "slash_commands", payload

    def press(self, label: str, message: dict[str, Any] | None = None, *, view: str = "") -> Acknowledged:
        """Press the button whose label begins so."""
        return self._send(*self.press_payload(label, message, view=view))

    def press_payload(self, label: str, message: dict[str, Any] | None = None, *, view: str = "") -> tuple[str, dict[str, Any]]:
        homes = {home["id"]: home for home in self.slack.homes.values()}
        source = (self.slack.views | homes)[view] if view else message or self.screen()
        block_id, button = _button(source["blocks"], label)
        action = {key: item for key, item in button.items() if key in ("action_id", "text", "value", "type")}
        return self._action(source, {"block_id": block_id, "action_ts": f"{time.time():.6f}"} | action, view=view)

    def choose(self, action: str, option: str, message: dict[str, Any] | None = None) -> Acknowledged:
        """Choose the option whose label begins so of a menu: from those shown, or by searching."""
        source = message or self.screen()
        block_id, element = next((block_id, item) for block_id, item in elements(source["blocks"]) if item["action_id"] == action)
        offered = self.search(action, option, source) if element["type"] == "external_select" else element["options"]
        chosen = next(item for item in offered if html.unescape(item["text"]["text"]).startswith(option))
        pressed = {
            "type": element["type"],
            "action_id": action,
            "block_id": block_id,
            "selected_option": {"text": chosen["text"], "value": chosen["value"]},
            "action_ts": f"{time.time():.6f}",
        }
        return self._send(*self._action(source, pressed))

    def search(self, action: str, query: str, message: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Type into a menu that searches."""
        source = message or self.screen()
        block_id = next(block_id for block_id, item in elements(source["blocks"]) if item["action_id"] == action)
        payload = self._person("name") | {
            "type": "block_suggestion",
            "container": self._container(source),
            "channel": {"id": self.channel, "name": "vision"},
            "message": _echoed(source),
            "api_app_id": "A0000FAKE",
            "action_id": action,
            "block_id": block_id,
            "value": query,
        }
        found = self._send("interactive", payload).payload
        assert found is not None
        return list(found["options"])

    def opened(self) -> dict[str, Any]:
        """The dialog that is open."""
        return list(self.slack.views.values())[-1]

    def fill(self, view: dict[str, Any] | None = None, *, files: list[dict[str, Any]] | None = None, **values: str) -> Acknowledged:
        """Send the open dialog with these values; other fields as they stand."""
        view = view or self.opened()
        state: dict[str, dict[str, Any]] = {}
        for block in view["blocks"]:
            if block["type"] == "input":
                name, element = block["block_id"].removeprefix("field:"), block["element"]
                state[block["block_id"]] = {element["action_id"]: typed(element, values.pop(name, None), files)}
        assert not values, f"no such fields: {values}"
        payload = self._person("name") | {
            "type": "view_submission",
            "api_app_id": "A0000FAKE",
            "trigger_id": self.slack.new_trigger(),
            "view": _echoed(view)
            | {"state": {"values": state}, "private_metadata": view.get("private_metadata", ""), "app_id": "A0000FAKE"},
            "response_urls": [],
            "is_enterprise_install": False,
            "enterprise": None,
        }
        return self._send("interactive", payload)

    def type_into(self, field: str, text: str, view: dict[str, Any] | None = None) -> Acknowledged:
        """Type into an input of the open dialog that tells of what is typed; the others stand as they are."""
        view = view or self.opened()
        inputs = {block["block_id"]: block for block in view["blocks"] if block["type"] == "input"}
        block = inputs[f"field:{field}"]
        assert block["dispatch_action"], "nobody is told of what is typed here"
        state = {
            block_id: {item["element"]["action_id"]: typed(item["element"], text if item is block else None, None)}
            for block_id, item in inputs.items()
        }
        action = {"type": "plain_text_input", "block_id": block["block_id"], "action_id": block["element"]["action_id"], "value": text}
        kind, payload = self._action(view, action | {"action_ts": f"{time.time():.6f}"}, view=view["id"])
        payload["view"] = payload["view"] | {"state": {"values": state}, "private_metadata": view.get("private_metadata", "")}
        return self._send(kind, payload)

    def mention(self, text: str, thread: str = "", files: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """Write to the bot in the channel; Slack tells of it twice, as a mention and as a message."""
        message = self.slack.say(self.channel, self.user, f"<@{BOT_USER}> {_escaped(text)}", thread, files)
        self._send("events_api", self._event(self._said(message, "channel")))
        mention = {key: value for key, value in message.items() if key != "subtype"}
        mention |= {"type": "app_mention", "channel": self.channel, "event_ts": message["ts"]}
        self._send("events_api", self._event(mention))
        return message

    def say(self, text: str, thread: str = "", files: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """Write a message."""
        message = self.slack.say(self.channel, self.user, _escaped(text), thread, files)
        kind = "im" if self.slack.channels[self.channel].user else "channel"
        self._send("events_api", self._event(self._said(message, kind)))
        return message

    @property
    def team(self) -> str:
        """The team they belong to."""
        return str(self.slack.users[self.user]["team_id"])

    def event(self, event: dict[str, Any], *, retry: int = 0, event_id: str = "") -> Acknowledged:
        return self._send("events_api", self._event(event, event_id), retry=retry)

    def open_home(self) -> dict[str, Any]:
        """Look at the App Home."""
        self._send(
            "events_api",
            self._event({"type": "app_home_opened", "user": self.user, "channel": f"D{self.user[1:]}", "tab": "home", "event_ts": "1.1"}),
        )
        return self.slack.homes[self.user]

    def shortcut(self, callback: str, message: dict[str, Any] | None = None) -> Acknowledged:
        """Use a shortcut, global or on a message."""
        payload = self._person("name" if message else "username") | {
            "type": "message_action" if message else "shortcut",
            "callback_id": callback,
            "trigger_id": self.slack.new_trigger(),
            "action_ts": f"{time.time():.6f}",
        }
        if message:
            payload |= {
                "channel": {"id": self.channel, "name": "vision"},
                "message": message,
                "message_ts": message["ts"],
                "response_url": self.slack.new_response_url(),
            }
        return self._send("interactive", payload)

    def again(self, kind: str, payload: dict[str, Any], retry: int = 1) -> Acknowledged:
        """Slack delivers the same once more."""
        return self._send(kind, payload, retry=retry)

    # ---------------------------------------------------------------- payloads

    def _send(self, kind: str, payload: dict[str, Any], *, retry: int = 0) -> Acknowledged:
        answer = self.slack.send(kind, payload, retry=retry)
        self.acknowledged.append(answer)
        self.settle()
        return answer

    def _person(self, *named: str) -> dict[str, Any]:
        """Who they are; the field of their name is called differently from payload to payload."""
        name = self.slack.users[self.user]["name"]
        return {
            "team": {"id": self.team, "domain": "fake"},
            "user": {"id": self.user, "team_id": self.team} | dict.fromkeys(named, name),
            "token": "verification",
        }

    def _container(self, message: dict[str, Any]) -> dict[str, Any]:
        ephemeral = ("user" in message and message["user"] != BOT_USER) or "response_type" in message
        container = {"type": "message", "message_ts": message["ts"], "channel_id": self.channel, "is_ephemeral": ephemeral}
        return container | ({"thread_ts": message["thread_ts"]} if message.get("thread_ts") else {})

    def _action(self, source: dict[str, Any], action: dict[str, Any], *, view: str = "") -> tuple[str, dict[str, Any]]:
        payload = self._person("username", "name") | {
            "type": "block_actions",
            "api_app_id": "A0000FAKE",
            "trigger_id": self.slack.new_trigger(),
            "enterprise": None,
            "is_enterprise_install": False,
            "actions": [action],
            "state": {"values": {}},
        }
        if view or "id" in source:
            payload |= {"container": {"type": "view", "view_id": source["id"]}, "view": _echoed(source)}
        else:
            payload |= {
                "container": self._container(source),
                "channel": {"id": self.channel, "name": "vision"},
                "message": _echoed(source),
                "response_url": self.slack.new_response_url(),
            }
        return "interactive", payload

    def _said(self, message: dict[str, Any], kind: str) -> dict[str, Any]:
        return {"channel_type": kind, "channel": self.channel, "event_ts": message["ts"]} | message

    def _event(self, event: dict[str, Any], event_id: str = "") -> dict[str, Any]:
        return {
            "token": "verification",
            "team_id": self.team,
            "api_app_id": "A0000FAKE",
            "event": event,
            "type": "event_callback",
            "event_id": event_id or f"Ev{time.time_ns()}",
            "event_time": int(time.time()),
            "authorizations": [
                {"enterprise_id": None, "team_id": self.team, "user_id": BOT_USER, "is_bot": True, "is_enterprise_install": False}
            ],
            "is_ext_shared_channel": False,
        }


def read(message: dict[str, Any]) -> str:
    """All text of a message or view, as people see it."""
    shown = list(texts(message.get("blocks") or [])) or [message.get("text", "")]
    return html.unescape("\n".join(shown)).replace("\u2060", "")


def elements(blocks: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything that can be pressed, with the id of its block."""
    for block in blocks:
        for item in block.get("elements", []) if block["type"] == "actions" else [block["accessory"]] if "accessory" in block else []:
            yield block.get("block_id", ""), item


def _button(blocks: list[dict[str, Any]], label: str) -> tuple[str, dict[str, Any]]:
    """The button with this in its label, or the one beside the text that holds it; with the id of its block."""
    for block_id, item in elements(blocks):
        if item["type"] == "button" and label in html.unescape(item["text"]["text"]):
            return block_id, item
    for block in blocks:
        if block.get("accessory", {}).get("type") == "button" and label in read({"blocks": [block]}):
            return block["block_id"], block["accessory"]
    raise AssertionError(f"there is no button “{label}”: {labels({'blocks': blocks})}")


def labels(message: dict[str, Any]) -> list[str]:
    """The labels of the buttons."""
    return [html.unescape(item["text"]["text"]) for _, item in elements(message["blocks"]) if item["type"] == "button"]


def pictures(message: dict[str, Any]) -> list[str]:
    """The files of a message's pictures."""
    return [block["slack_file"]["id"] for block in message["blocks"] if block["type"] == "image"]


def typed(element: dict[str, Any], value: str | None, files: list[dict[str, Any]] | None) -> dict[str, Any]:
    """What an input sends: a value that was typed, or the one that it was filled with."""
    kind = element["type"]
    if kind == "file_input":
        return {"type": kind, "files": files or []}
    if kind == "checkboxes":
        ticked = element.get("initial_options", []) if value is None else element["options"] if value == "on" else []
        return {"type": kind, "selected_options": ticked}
    if kind == "static_select":
        chosen = element.get("initial_option") if value is None else next(item for item in element["options"] if item["value"] == value)
        return {"type": kind, "selected_option": chosen}
    return {"type": kind, "value": (element.get("initial_value") if value is None else value) or None}


def _escaped(text: str) -> str:
    return html.escape(text, quote=False)


def _echoed(value: Any) -> Any:
    """As Slack sends a message or view back."""
    return {key: item for key, item in value.items() if key not in ("metadata", "edits")}
