"""Who acts, and where: read from the payloads of commands, presses, dialogs and events alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.access import Place

FACE = "slack"


@dataclass(frozen=True)
class Caller:
    """A person at a place of one Slack team. `thread` is empty where they did not act in a thread."""

    team: str
    user: str
    name: str = ""
    channel: str = ""
    thread: str = ""
    message: str = ""  # ts of the message they acted on
    ephemeral: bool = False  # that message is seen by them alone
    direct: bool = False  # in a conversation of two
    response_url: str = ""
    trigger: str = ""
    view: str = ""  # id of the view they acted in
    home: bool = False  # that view is the App Home

    @property
    def place(self) -> Place:
        """The place as drafts, tasks and deliveries keep it."""
        return place_of(self.team, self.channel, self.thread)


def place_of(team: str, channel: str, thread: str) -> Place:
    """A thread of a channel of a team."""
    return Place(FACE, f"{team}/{channel}", thread)


def team_and_channel(place: Place) -> tuple[str, str]:
    """What `place_of` put together."""
    team, _, channel = place.channel.rpartition("/")
    return team, channel


def read_caller(body: Mapping[str, Any], team: str, user: str) -> Caller:
    """Who a payload comes from; `team` and `user` as Bolt has found them."""
    if body.get("type") == "event_callback" or "event" in body:
        return _of_event(body.get("event") or {}, team, user)
    if "command" in body:
        channel = str(body.get("channel_id") or "")
        return Caller(
            team,
            user,
            str(body.get("user_name") or ""),
            channel,
            direct=channel.startswith("D"),
            response_url=str(body.get("response_url") or ""),
            trigger=str(body.get("trigger_id") or ""),
        )
    return _of_interaction(body, team, user)


def _of_event(event: Mapping[str, Any], team: str, user: str) -> Caller:
    channel = event.get("channel")
    channel = channel if isinstance(channel, str) else ""
    return Caller(
        team,
        user or str(event.get("user") or ""),
        channel=channel,
        thread=str(event.get("thread_ts") or ""),
        message=str(event.get("ts") or ""),
        direct=event.get("channel_type") == "im" or channel.startswith("D"),
        home=event.get("type") == "app_home_opened",
    )


def _of_interaction(body: Mapping[str, Any], team: str, user: str) -> Caller:
    container, message, view = body.get("container") or {}, body.get("message") or {}, body.get("view") or {}
    person = body.get("user") or {}
    channel = str((body.get("channel") or {}).get("id") or container.get("channel_id") or "")
    ts = str(message.get("ts") or container.get("message_ts") or body.get("message_ts") or "")
    thread = str(message.get("thread_ts") or container.get("thread_ts") or "")
    return Caller(
        team,
        user or str(person.get("id") or ""),
        str(person.get("name") or person.get("username") or ""),
        channel,
        # What is answered to a message of the channel itself is answered in its thread.
        thread or ts if not container.get("is_ephemeral") else thread,
        ts,
        ephemeral=bool(container.get("is_ephemeral")),
        direct=channel.startswith("D"),
        response_url=str(body.get("response_url") or ""),
        trigger=str(body.get("trigger_id") or ""),
        view=str(view.get("id") or ""),
        home=view.get("type") == "home",
    )
